// npm's @anthropic-ai/sdk against the server at argv[2]; prints one JSON line a case: {case, ...what came}.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0, timeout: 600000 });
const tools = [{ name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];
const messages = [{ role: "user", content: "What is the weather in Bern?" }];
const asked = { model: "scripted", max_tokens: 500, messages, tools, thinking: { type: "adaptive" } };
const say = (name, told) => console.log(JSON.stringify({ case: name, ...told }));

const whole = await client.messages.create(asked);
say("whole", { content: whole.content.map(({ type, text, thinking, name, input }) => ({ type, text, thinking, name, input })), stop: whole.stop_reason });

const stream = client.messages.stream(asked);
const kinds = [];
stream.on("streamEvent", (event) => kinds.push(event.type));
const last = await stream.finalMessage();
say("stream", { content: last.content.map(({ type, text, thinking, name, input }) => ({ type, text, thinking, name, input })), stop: last.stop_reason, kinds });

const results = whole.content.filter((block) => block.type === "tool_use").map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "sunny" }));
const conversation = [...messages, { role: "assistant", content: whole.content }, { role: "user", content: results }];
const after = await client.messages.create({ ...asked, messages: conversation });
const { max_tokens: _, ...prompt } = { ...asked, messages: conversation };
say("count", { counted: (await client.messages.countTokens(prompt)).input_tokens, used: after.usage.input_tokens });

try {
  await client.messages.create({ ...asked, model: "other" });
} catch (error) {
  say("error", { kind: error.constructor.name, status: error.status, type: error.error?.error?.type, id: error.requestID });
}
