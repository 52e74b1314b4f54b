// The page itself: which conversation is shown, what is asked, what is done with a message.

const log = byId("log");
const prompt = byId("prompt");
const NEAR = 80; // pixels from the end within which the page follows an answer

let chat = newChat();
let running = null; // { chat, message, controller, note }: one answer at a time
let pictures = []; // data: addresses that go with the next question
let views = new Map(); // message -> its element, of the conversation that is shown

const doing = { edit: editQuestion, again: answerAgain, remove: removeExchange, result: giveResult };

// ---- what is shown

function viewOf(message) {
  const view = message.role === "user" ? questionView(message, doing) : answerView(message, doing);
  views.set(message, view);
  if (running?.message === message) view.update(true, running.note);
  return view;
}

function showChat() {
  views = new Map();
  const shown = chat.messages.length ? chat.messages.map(viewOf) : [emptyView(pickStarter)];
  byId("messages").replaceChildren(...shown);
  document.title = chat.messages.length ? `${chat.title} · mlxrun` : "mlxrun";
  showChats();
  showRunning();
  showContext();
  if (chat.messages.length) toEnd();
  else log.scrollTop = 0;
}

function showRunning() {
  const busy = running !== null;
  const focused = [byId("stop"), byId("send")].includes(document.activeElement);
  byId("stop").hidden = !busy;
  byId("send").hidden = busy;
  if (focused) (busy ? byId("stop") : prompt).focus();
  byId("send").disabled = !prompt.value.trim() && !pictures.length;
}

function showContext() {
  const counted = chat.messages.findLast((message) => message.counted?.total)?.counted;
  const most = modelNow()?.context;
  const place = byId("context");
  place.hidden = !counted;
  if (!counted) return;
  const share = most ? Math.min(1, counted.total / most) : 0;
  const [meter, text] = place.children;
  meter.hidden = !most;
  meter.firstElementChild.style.width = `${Math.max(2, 100 * share)}%`;
  place.classList.toggle("full", share > 0.85);
  text.textContent = most ? `${grouped(counted.total)} of ${grouped(most)} tokens` : `${grouped(counted.total)} tokens`;
  place.title = `How much of the model's context this conversation takes. ${grouped(counted.cached)} tokens were known from before.`;
}

const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;

function toEnd() {
  log.scrollTop = log.scrollHeight;
  byId("latest").hidden = true;
}

function showAnswer(message) {
  const follows = atEnd();
  views.get(message)?.update(running?.message === message, running?.note);
  if (follows) toEnd();
  else byId("latest").hidden = false;
}

// ---- asking

async function send(text) {
  if (running || !(text.trim() || pictures.length)) return;
  chat.messages.push({ role: "user", text: text.trimEnd(), pictures });
  pictures = [];
  prompt.value = "";
  fitHeight(prompt);
  showPictures();
  await answer(chat, { role: "assistant", parts: [] });
}

// Into that message, which goes on where it has parts already.
async function answer(own, message) {
  if (!own.messages.includes(message)) own.messages.push(message);
  Object.assign(message, { model: settings.model, error: undefined, stopped: undefined, finish: undefined });
  running = { chat: own, message, controller: new AbortController(), note: "" };
  touch(own);
  showChat();
  const watch = setInterval(() => noteLoading(message), 1500);
  const error = await grow(own, message).then(() => null, (raised) => raised);
  clearInterval(watch);
  running = null;
  if (error?.name === "AbortError") message.stopped = true;
  else if (error) message.error = error.message;
  touch(own);
  if (own === chat) ended(message);
  else showRunning();
  if (error instanceof Unreachable) look();
  if (error instanceof KeyWanted && (await askKey())) await answerAgain(message);
  else refreshModels();
}

async function grow(own, message) {
  const growing = new Growing(message);
  const { signal } = running.controller;
  let waits = false;
  await streamChat(sentBody(own), signal, (chunk) => {
    growing.add(chunk);
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      if (own === chat && running?.message === message) showAnswer(message);
    });
  });
}

function ended(message) {
  showAnswer(message);
  showRunning();
  showChats();
  showContext();
  announce(message.error ?? (message.stopped ? "Stopped." : saidIn(message).slice(0, 3000)));
}

async function noteLoading(message) {
  if (message.parts.length) return;
  await refreshModels();
  if (running?.message !== message) return;
  running.note = modelNow()?.state === "loading" ? `Loading ${settings.model}` : "";
  if (running.chat === chat) showAnswer(message);
}

function stop() {
  running?.controller.abort();
}

// ---- what is done with a message

function editQuestion(message, text) {
  if (running) return;
  const at = chat.messages.indexOf(message);
  pictures = message.pictures ?? [];
  chat.messages.splice(at);
  send(text);
}

async function answerAgain(message) {
  if (running) return;
  const own = chats.find((one) => one.messages.includes(message));
  if (!own) return;
  own.messages.splice(own.messages.indexOf(message));
  await answer(own, { role: "assistant", parts: [] });
}

// Question and answer go together: most models accept no others than pairs of them.
function removeExchange(message) {
  if (running) return;
  const at = chat.messages.indexOf(message);
  const begin = message.role === "user" ? at : at - 1;
  const next = chat.messages.findIndex((other, index) => index > begin && other.role === "user");
  chat.messages.splice(begin, (next === -1 ? chat.messages.length : next) - begin);
  touch(chat);
  showChat();
  prompt.focus();
}

function giveResult(message, part, text) {
  if (running) return;
  part.result = text;
  const open = message.parts.some((other) => other.kind === "call" && other.result === undefined);
  if (open) showAnswer(message);
  else answer(chat, message);
}

function pickStarter(text) {
  prompt.value = text;
  fitHeight(prompt);
  showRunning();
  prompt.focus();
}

// ---- conversations

function showChats() {
  const kept = chats.filter((one) => one.messages.length);
  const items = kept.map((one) => {
    const current = one === chat ? "true" : null;
    const open = el("button", { type: "button", class: "open", "aria-current": current, onclick: () => openChat(one) }, one.title);
    return el("li", {}, open, iconButton("delete", `Delete the conversation “${one.title}”`, () => removeChat(one)));
  });
  byId("chats").replaceChildren(...items);
  byId("clear").hidden = !kept.length;
}

function openChat(one) {
  chat = one;
  showChat();
  closeSideOnPhone();
  prompt.focus();
}

function beginChat() {
  openChat(newChat());
}

function forget(gone) {
  if (running && gone(running.chat)) stop();
  chats = chats.filter((one) => !gone(one));
  keepChats();
  if (gone(chat)) chat = newChat();
  showChat();
}

async function removeChat(one) {
  if (await sure("Delete this conversation?", one.title, "Delete")) forget((other) => other === one);
}

async function clearChats() {
  const text = "They are kept nowhere else, so they will be gone.";
  if (await sure("Delete all conversations?", text, "Delete all")) forget(() => true);
}
