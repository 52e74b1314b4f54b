// The server as any program meets it: /v1/models, /v1/chat/completions with stream, /health.

const KEY = "mlxrun.key";

class Unreachable extends Error {
  constructor() {
    super("The server does not answer. Is it still running?");
  }
}
class KeyWanted extends Error {
  constructor() {
    super("This server needs its key.");
  }
}
class Refused extends Error {}

async function request(path, { body, signal } = {}) {
  const headers = { accept: "application/json, text/event-stream" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  const asked = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
  const response = await fetch(path, asked).catch((error) => {
    throw signal?.aborted ? error : new Unreachable();
  });
  if (response.status === 401) throw new KeyWanted();
  if (!response.ok) throw new Refused(await sentence(response));
  return response;
}

async function sentence(response) {
  const answer = await response.json().catch(() => null);
  return answer?.error?.message ?? `The server answered ${response.status} and no word why.`;
}

// The models that can be asked: [{ id, state, context, sees }]
async function listModels() {
  const { data } = await (await request("v1/models")).json();
  return data.filter((entry) => entry.type !== "embeddings").map((entry) => ({
    id: entry.id,
    state: entry.state ?? "loaded",
    context: entry.context_length ?? null,
    sees: [entry.capabilities, entry.architecture?.input_modalities].some(
      (list) => Array.isArray(list) && (list.includes("vision") || list.includes("image")),
    ),
  }));
}

// What this server lends: [{ id: "server.tool", about, error }]; nothing where it lends nothing
async function listLent() {
  const asked = await request("v1/mcp").catch(() => null);
  const { data } = asked ? await asked.json() : { data: [] };
  return data.flatMap(({ server, tools, error }) =>
    error ? [{ id: server, error }] : tools.map(({ name, description }) => ({ id: `${server}.${name}`, about: description })),
  );
}

// "ok", "stopping", or null where nobody answers
async function health() {
  try {
    return (await (await fetch("health")).json()).status;
  } catch {
    return null;
  }
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const data = frame.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) yield data.map((line) => line.slice(5).trim()).join("\n");
    }
  }
}

// Asks, and hands each chunk to `told` as it comes. Returns when the answer is whole; throws where it is not.
async function streamChat(body, signal, told) {
  const response = await request("v1/chat/completions", {
    body: { ...body, stream: true, stream_options: { include_usage: true } },
    signal,
  });
  try {
    for await (const data of events(response)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Refused(chunk.error.message);
      told(chunk);
    }
  } catch (error) {
    if (error instanceof Refused || signal.aborted) throw error;
    throw new Unreachable();
  }
  throw new Refused("The answer broke off before its end.");
}
