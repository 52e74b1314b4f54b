// Conversations and settings, kept in this browser. What a message is, and what of it the server is sent.
//
// A message: { role: "user", text, pictures } or { role: "assistant", parts, model, counted, error, stopped }.
// A part: { kind: "said", text }, { kind: "thought", text, ms } or { kind: "call", id, name, arguments, result, lent, failed }: `lent` where the server
// calls the tool itself.

const CHATS = "mlxrun.chats";
const SETTINGS = "mlxrun.settings";
const NO_SETTINGS = { system: "", temperature: "", longest: "", effort: "", tools: "", lent: [], model: "", theme: "", side: "" };
const TITLE = 60; // characters

function readKept(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

const settings = { ...NO_SETTINGS, ...readKept(SETTINGS, {}) };
let chats = readKept(CHATS, []);
if (!Array.isArray(chats)) chats = [];

function keepSettings() {
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(settings));
  } catch {
    // they count until the page is closed
  }
}

// Pictures are not kept: a browser gives a page a few megabytes. Where all is full the oldest conversation goes.
function keepChats() {
  const kept = chats.filter((chat) => chat.messages.length);
  const plain = (name, value) => (name === "pictures" ? undefined : value);
  while (kept.length) {
    try {
      localStorage.setItem(CHATS, JSON.stringify(kept, plain));
      return;
    } catch {
      kept.pop();
    }
  }
  localStorage.removeItem(CHATS);
}

function newChat() {
  const chat = { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), title: "", at: Date.now(), messages: [] };
  chats = [chat, ...chats.filter((other) => other.messages.length)];
  return chat;
}

function touch(chat) {
  chat.at = Date.now();
  const first = chat.messages.find((message) => message.role === "user")?.text ?? "";
  chat.title = first.trim().split("\n", 1)[0].slice(0, TITLE) || "Conversation";
  chats = [chat, ...chats.filter((other) => other !== chat)];
  keepChats();
}

function saidIn(message) {
  return message.parts.filter((part) => part.kind === "said").map((part) => part.text).join("");
}

// ---- what the server is sent

function sentMessages(chat) {
  const system = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  return [...system, ...chat.messages.flatMap((one) => (one.role === "user" ? [sentQuestion(one)] : sentAnswer(one)))];
}

function sentQuestion({ text, pictures }) {
  if (!pictures?.length) return { role: "user", content: text };
  const seen = pictures.map((url) => ({ type: "image_url", image_url: { url } }));
  return { role: "user", content: [...seen, { type: "text", text }] };
}

// An answer that went on after calls is several messages: what was said with its calls, their results, and so on.
function sentAnswer(message) {
  const sent = [];
  let own = null;
  let results = [];
  const flush = () => {
    if (own) sent.push(own, ...results);
    own = null;
    results = [];
  };
  for (const part of message.parts) {
    if (part.kind !== "call" && own?.tool_calls) flush();
    own ??= { role: "assistant", content: "" };
    if (part.kind === "said") own.content += part.text;
    if (part.kind === "thought") own.reasoning_content = (own.reasoning_content ?? "") + part.text;
    if (part.kind === "call" && part.result !== undefined) {
      const called = { name: part.name, arguments: part.arguments || "{}" };
      (own.tool_calls ??= []).push({ id: part.id, type: "function", function: called });
      results.push({ role: "tool", tool_call_id: part.id, content: part.result });
    }
  }
  flush();
  return sent.filter((one) => one.role === "tool" || one.content || one.tool_calls);
}

function sentBody(chat) {
  const body = { model: settings.model, messages: sentMessages(chat) };
  if (settings.temperature !== "") body.temperature = Number(settings.temperature);
  if (settings.longest !== "") body.max_completion_tokens = Number(settings.longest);
  if (settings.effort !== "") body.reasoning_effort = settings.effort;
  if (settings.tools.trim()) body.tools = JSON.parse(settings.tools);
  if (settings.lent.length) body.mlxrun_mcp = settings.lent;
  return body;
}

// ---- what comes

class Growing {
  // An answer while it comes: chunks in, parts and times out.
  constructor(message) {
    this.message = message;
    this.began = performance.now();
    this.first = this.last = null;
    this.calls = new Map(); // by the index that the stream gives them
  }

  add(chunk) {
    const [choice] = chunk.choices;
    if (choice) this.addDelta(choice.delta);
    if (choice?.finish_reason) this.message.finish = choice.finish_reason;
    if (chunk.usage) this.count(chunk.usage);
  }

  addDelta(delta) {
    const thought = delta.reasoning_content ?? delta.reasoning;
    if (thought) this.text("thought", thought);
    if (delta.content) this.text("said", delta.content);
    for (const call of delta.tool_calls ?? []) this.call(call.index, { id: call.id, ...call.function });
    for (const call of delta.mcp_calls ?? []) this.call(`lent ${call.index}`, { ...call, lent: true });
  }

  arrived() {
    this.last = performance.now();
    this.first ??= this.last;
  }

  text(kind, text) {
    this.arrived();
    let part = this.message.parts.at(-1);
    if (part?.kind !== kind) {
      if (kind === "said" && !text.trim()) return; // line ends between thoughts and answer
      part = { kind, text: "" };
      if (kind === "thought") part.began = this.last;
      this.message.parts.push(part);
    }
    part.text += text;
    if (kind === "thought") part.ms = this.last - part.began;
  }

  call(key, told) {
    this.arrived();
    let part = this.calls.get(key);
    if (!part) {
      part = { kind: "call", id: told.id, name: "", arguments: "", lent: told.lent };
      this.calls.set(key, part);
      this.message.parts.push(part);
    }
    part.name += told.name ?? "";
    part.arguments += told.arguments ?? "";
    if (told.result !== undefined) Object.assign(part, { result: told.result, failed: told.is_error });
  }

  count(usage) {
    const span = (this.last - this.first) / 1000;
    const written = usage.completion_tokens;
    this.message.counted = {
      prompt: usage.prompt_tokens,
      cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
      written,
      total: this.message.parts.some((part) => part.lent) ? null : usage.total_tokens, // that counts every round
      first: this.first === null ? null : (this.first - this.began) / 1000,
      rate: written > 1 && span > 0.05 ? (written - 1) / span : null,
    };
  }
}
