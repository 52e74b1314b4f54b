// npm's openai and the AI SDK against the server at argv[2]; prints one JSON line a case: {case, ...what came}.
import OpenAI from "openai";
import { generateText, streamText, tool, jsonSchema, stepCountIs, embed } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const [url, model, calls] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0, timeout: 600000 });
const messages = [{ role: "user", content: "What is the weather in Paris?" }];
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const weather = { type: "function", function: { name: "get_weather", description: "Weather of a city.", parameters: schema } };
const forced = { type: "function", function: { name: "get_weather" } };
const say = (name, told) => console.log(JSON.stringify({ case: name, ...told }));

const whole = await client.chat.completions.create({ model, messages, max_tokens: 8, temperature: 0 });
say("openai chat", { text: whole.choices[0].message.content, tokens: whole.usage.completion_tokens });

let text = "", usage = null;
const stream = await client.chat.completions.create({
  model, messages, max_tokens: 8, temperature: 0, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
say("openai stream", { text, tokens: usage.completion_tokens });

const vectors = await client.embeddings.create({ model, input: ["one", "two"] });
say("openai embeddings", { sizes: vectors.data.map((one) => one.embedding.length), first: vectors.data[0].embedding[0] });

const ai = createOpenAICompatible({ name: "mlxrun", baseURL: url, apiKey: "none", includeUsage: true });
const generated = await generateText({ model: ai(model), prompt: messages[0].content, maxOutputTokens: 8, temperature: 0 });
say("ai generateText", { text: generated.text, tokens: generated.usage.outputTokens, finish: generated.finishReason });

const flowing = streamText({ model: ai(model), prompt: messages[0].content, maxOutputTokens: 8, temperature: 0 });
let flowed = "";
for await (const part of flowing.textStream) flowed += part;
say("ai streamText", { text: flowed, tokens: (await flowing.usage).outputTokens });

const { embedding } = await embed({ model: ai.textEmbeddingModel(model), value: "one" });
say("ai embed", { size: embedding.length, first: embedding[0] });

if (calls === "calls") {
  const runner = client.chat.completions.stream({ model, messages, tools: [weather], tool_choice: forced, max_tokens: 60, temperature: 0 });
  const { choices } = await runner.finalChatCompletion();
  const [call] = choices[0].message.tool_calls;
  say("openai tools", { name: call.function.name, arguments: JSON.parse(call.function.arguments), finish: choices[0].finish_reason });

  const ran = [];
  const tools = {
    get_weather: tool({
      description: "Weather of a city.",
      inputSchema: jsonSchema(schema),
      execute: async ({ city }) => { ran.push(city); return "sunny"; },
    }),
  };
  const agent = streamText({
    model: ai(model), prompt: messages[0].content, tools, maxOutputTokens: 60, temperature: 0, stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? { type: "tool", toolName: "get_weather" } : "none" }),
  });
  let last = "";
  for await (const part of agent.textStream) last += part;
  say("ai tools", { ran, steps: (await agent.steps).length, text: last });
}
