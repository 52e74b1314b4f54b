// What stands round a conversation: models, settings, the server's key and health, pictures, keys, the look.

const LOOK = { well: 20000, ill: 2000 }; // ms after which we ask again whether the server is there
const NARROW = matchMedia("(max-width: 760px)");
const MOST_PICTURE = 8 << 20; // bytes of a file
const FIELDS = ["system", "temperature", "longest", "effort", "tools"];
const THEMES = { "": ["auto", "As the system has it"], light: ["light", "Light"], dark: ["dark", "Dark"] };

// ---- models

let models = [];

const modelNow = () => models.find((model) => model.id === settings.model);

async function refreshModels() {
  try {
    models = await listModels();
  } catch (error) {
    if (error instanceof KeyWanted && !running && (await askKey())) await refreshModels();
    return;
  }
  if (!modelNow()) settings.model = models[0]?.id ?? "";
  showModels();
}

const STATES = { loaded: "", loading: " (loading)", unloaded: " (loads when asked)" };

function showModels() {
  const choice = byId("model");
  const options = models.map(({ id, state }) => el("option", { value: id }, id + (STATES[state] ?? "")));
  choice.replaceChildren(...options);
  choice.value = settings.model;
  choice.disabled = !models.length;
  choice.title = settings.model;
  byId("state").className = modelNow()?.state ?? "";
  byId("attach").hidden = !modelNow()?.sees;
  showContext();
}

// ---- is the server there

let lookAgain = 0;
let well = true;

function showBanner(text, kind) {
  const banner = byId("banner");
  banner.className = kind;
  banner.textContent = text;
}

async function look() {
  clearTimeout(lookAgain);
  const status = await health();
  const before = well;
  well = status === "ok";
  if (!well) showBanner(status === null ? "The server does not answer. Trying again …" : "The server is stopping.", "ill");
  else if (!before) {
    showBanner("Connected again.", "well");
    setTimeout(() => well && showBanner("", ""), 3000);
    refreshModels();
  }
  lookAgain = setTimeout(look, well ? LOOK.well : LOOK.ill);
}

function askKey() {
  const dialog = byId("ask-key");
  if (dialog.open) return Promise.resolve(false);
  byId("ask-key-title").textContent = sessionStorage.getItem(KEY) ? "That is not the key of this server" : "This server needs its key";
  byId("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => {
      const given = dialog.returnValue === "key" && byId("key").value.trim();
      if (given) sessionStorage.setItem(KEY, given);
      byId("key").value = "";
      resolve(Boolean(given));
    };
    dialog.addEventListener("close", closed, { once: true });
  });
}

// ---- settings and the look

function fillSettings() {
  for (const name of FIELDS) byId(name).value = settings[name];
  for (const name of FIELDS) byId(name).addEventListener("input", () => takeSetting(name));
}

function takeSetting(name) {
  const field = byId(name);
  if (name === "tools") field.setCustomValidity(wrongTools(field.value));
  const fits = field.checkValidity();
  if (name === "tools") byId("tools-told").textContent = fits ? toolsTold : field.validationMessage;
  if (!fits) return;
  settings[name] = field.value;
  keepSettings();
}

const toolsTold = byId("tools-told").textContent;

function wrongTools(text) {
  if (!text.trim()) return "";
  try {
    return Array.isArray(JSON.parse(text)) ? "" : "Tools are a list: [ … ].";
  } catch (error) {
    return `This is no JSON yet: ${error.message}.`;
  }
}

// Tools that the server calls itself; one that is ticked and no longer there is forgotten.
async function showLent() {
  const lent = await listLent();
  settings.lent = settings.lent.filter((id) => lent.some((one) => one.id === id && !one.error));
  const ticks = lent.map(({ id, about, error }) => {
    const box = el("input", { type: "checkbox", disabled: Boolean(error) });
    box.checked = settings.lent.includes(id);
    box.addEventListener("change", () => {
      settings.lent = settings.lent.filter((other) => other !== id).concat(box.checked ? [id] : []);
      keepSettings();
    });
    return el("label", { class: "tick" }, box, el("span", {}, el("b", {}, id), el("small", {}, error ?? about.split("\n", 1)[0])));
  });
  byId("lent").hidden = !ticks.length;
  byId("lent").querySelector("div").replaceChildren(...ticks);
}

function showTheme() {
  const [name, told] = THEMES[settings.theme] ?? THEMES[""];
  document.documentElement.dataset.theme = settings.theme;
  setIcon(byId("theme"), name);
  byId("theme").title = `Colours: ${told}`;
  byId("theme").setAttribute("aria-label", `Colours: ${told}`);
}

function nextTheme() {
  const order = Object.keys(THEMES);
  settings.theme = order[(order.indexOf(settings.theme) + 1) % order.length];
  keepSettings();
  showTheme();
}

// ---- the list of conversations: beside the page, or over it where that is narrow

function showSide(open) {
  document.body.classList.toggle("side", open);
  byId("side").inert = !open;
  byId("shade").hidden = !(open && NARROW.matches);
  byId("menu").setAttribute("aria-expanded", String(open));
}

function toggleSide() {
  const open = !document.body.classList.contains("side");
  showSide(open);
  if (NARROW.matches) {
    (open ? byId("new") : byId("menu")).focus();
    return;
  }
  settings.side = open ? "" : "closed";
  keepSettings();
}

function closeSideOnPhone() {
  if (NARROW.matches) showSide(false);
}

const usualSide = () => showSide(!NARROW.matches && settings.side !== "closed");

// ---- pictures

async function addPictures(files) {
  if (!modelNow()?.sees) return;
  for (const file of files) {
    if (!/^image\/(png|jpeg|webp|gif)$/.test(file.type)) continue;
    if (file.size > MOST_PICTURE) showBanner(`${file.name} is larger than 8 MB, which is too much.`, "ill");
    else pictures.push(await dataUrl(file));
  }
  showPictures();
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function showPictures() {
  const shown = pictures.map((url) => {
    const drop = () => {
      pictures = pictures.filter((other) => other !== url);
      showPictures();
    };
    return el("span", {}, el("img", { src: url, alt: "Picture to send" }), iconButton("close", "Leave this picture out", drop));
  });
  byId("pictures").replaceChildren(...shown);
  byId("pictures").hidden = !pictures.length;
  showRunning();
}

// ---- keys and buttons

function onPromptKey(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send(prompt.value);
  } else if (event.key === "ArrowUp" && !prompt.value && !running) {
    const last = chat.messages.findLast((message) => message.role === "user");
    if (!last) return;
    event.preventDefault();
    views.get(last).edit();
  }
}

function onKey(event) {
  if (document.querySelector("dialog[open]") || event.isComposing) return;
  const writing = event.target.matches("input, textarea, select");
  if (event.key === "Escape" && NARROW.matches && document.body.classList.contains("side")) toggleSide();
  else if (event.key === "Escape" && running) stop();
  else if (event.key === "/" && !writing) {
    event.preventDefault();
    prompt.focus();
  } else if (event.altKey && event.code === "KeyN") {
    event.preventDefault();
    beginChat();
  }
}

function wire() {
  const click = { new: beginChat, clear: clearChats, menu: toggleSide, shade: toggleSide, theme: nextTheme, stop, latest: toEnd };
  for (const [id, work] of Object.entries(click)) byId(id).addEventListener("click", work);
  byId("open-settings").addEventListener("click", () => {
    byId("settings").showModal();
    showLent();
  });
  byId("settings").addEventListener("click", (event) => event.target === byId("settings") && byId("settings").close());
  for (const button of document.querySelectorAll("dialog .cancel")) {
    button.addEventListener("click", () => button.closest("dialog").close(""));
  }
  byId("attach").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", ({ target }) => addPictures(target.files).then(() => (target.value = "")));
  byId("model").addEventListener("change", ({ target }) => {
    settings.model = target.value;
    keepSettings();
    showModels();
  });
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send(prompt.value);
  });
  prompt.addEventListener("keydown", onPromptKey);
  prompt.addEventListener("paste", (event) => event.clipboardData.files.length && addPictures(event.clipboardData.files));
  prompt.addEventListener("input", () => {
    fitHeight(prompt);
    showRunning();
  });
  log.addEventListener("scroll", () => atEnd() && (byId("latest").hidden = true));
  document.addEventListener("keydown", onKey);
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  document.addEventListener("drop", (event) => addPictures(event.dataTransfer.files));
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && look());
  NARROW.addEventListener("change", usualSide);
}

showTheme();
usualSide();
fillSettings();
wire();
showChat();
refreshModels().then(look);
