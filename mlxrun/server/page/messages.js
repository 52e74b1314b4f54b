// How a message looks. `doing` is what can be done with it: edit, again, remove, result.

function questionView(message, doing) {
  const pictures = (message.pictures ?? []).map((url) => el("img", { src: url, alt: "Your picture" }));
  const bubble = el("div", { class: "bubble" }, message.text);
  const tools = el(
    "div",
    { class: "actions" },
    iconButton("edit", "Edit and send again", () => article.edit()),
    copyButton(() => message.text),
    iconButton("delete", "Delete the question and its answer", () => doing.remove(message)),
  );
  const article = el("article", { class: "message user", "aria-label": "You" }, ...pictures, bubble, tools);
  article.edit = () => {
    const form = editForm(message.text, (text) => doing.edit(message, text), () => {
      form.replaceWith(bubble);
      tools.hidden = false;
    });
    bubble.replaceWith(form);
    tools.hidden = true;
    form.begin();
  };
  return article;
}

function editForm(text, onsend, oncancel) {
  const area = el("textarea", { rows: "1", "aria-label": "Edit your message" });
  area.value = text;
  const cancel = el("button", { type: "button", onclick: oncancel }, "Cancel");
  const form = el("form", { class: "edit" }, area, el("div", { class: "buttons" }, cancel, el("button", { class: "main" }, "Send")));
  area.addEventListener("input", () => fitHeight(area));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      oncancel();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (area.value.trim()) onsend(area.value);
  });
  form.begin = () => {
    fitHeight(area);
    area.focus();
    area.setSelectionRange(text.length, text.length);
  };
  return form;
}

// ---- parts of an answer: each view has update(part, whether it still grows)

function saidView() {
  const view = el("div", { class: "prose" });
  view.update = (part) => showMarkdown(view, part.text);
  return view;
}

function thoughtView() {
  const label = el("span");
  const body = el("div", { class: "prose" });
  const view = el("details", { class: "thought" }, el("summary", {}, icon("fold"), label), body);
  view.update = (part, growing) => {
    const seconds = (part.ms ?? 0) / 1000;
    const time = seconds < 1 ? "less than a second" : told(seconds);
    label.textContent = growing ? `Thinking${seconds < 1 ? "" : `, ${time}`}` : `Thought for ${time}`;
    view.classList.toggle("growing", growing);
    showMarkdown(body, part.text);
  };
  return view;
}

function callView(message, doing) {
  const name = el("b");
  const short = el("span", { class: "call-short" }); // what it was given, while the card is folded
  const state = el("span", { class: "call-state" });
  const given = el("div");
  const result = el("div");
  const summary = el("summary", {}, icon("tool"), name, short, state, icon("fold"));
  const view = el("details", { class: "call", open: true }, summary, given, result);
  view.update = (part, growing) => {
    name.textContent = part.name;
    short.textContent = part.arguments;
    const open = part.result === undefined;
    state.textContent = stateOf(part, growing);
    view.classList.toggle("growing", open && (growing || Boolean(part.lent)));
    view.classList.toggle("failed", Boolean(part.failed));
    const shown = growing && open ? part.arguments : pretty(part.arguments || "{}");
    if (given.shown !== shown) given.replaceChildren(codeFigure("json", shown, "arguments"));
    given.shown = shown;
    if (part.result !== undefined && result.shown !== part.result) {
      const text = pretty(part.result);
      result.replaceChildren(codeFigure(text === part.result ? "" : "json", text, "result"));
      result.shown = part.result;
      view.open = false;
    } else if (open && !part.lent && !growing && !result.firstChild) {
      result.append(resultForm((text) => doing.result(message, part, text)));
    }
  };
  return view;
}

function stateOf(part, growing) {
  if (part.result !== undefined) return part.failed ? "failed" : "done";
  return growing || part.lent ? "calling" : "waits for its result";
}

function resultForm(onsend) {
  const area = el("textarea", { rows: "2", class: "mono", "aria-label": "Result of the call", placeholder: "What the tool answers" });
  const form = el("form", { class: "result" }, area, el("button", {}, "Give result"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onsend(area.value);
  });
  return form;
}

function pretty(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value !== "object" || value === null) return text;
    // short lists of plain values stay on one line
    const inOne = (_, inner) => `[${inner.replace(/\n\s+/g, " ")}]`;
    return JSON.stringify(value, null, 2).replace(/\[\n\s+([^[\]{}]{0,80}?)\n\s+\]/g, inOne);
  } catch {
    return text;
  }
}

const VIEWS = { said: saidView, thought: thoughtView, call: callView };

function answerView(message, doing) {
  const parts = el("div", { class: "parts" });
  const waiting = el("p", { class: "waiting" }, el("i"), el("i"), el("i"), el("span"));
  const trouble = el("div", { class: "trouble", role: "alert" });
  const facts = el("span", { class: "facts" });
  const tools = el(
    "div",
    { class: "actions" },
    copyButton(() => saidIn(message), "Copy the answer"),
    iconButton("again", "Answer again", () => doing.again(message)),
    iconButton("delete", "Delete the question and its answer", () => doing.remove(message)),
    facts,
  );
  const article = el("article", { class: "message assistant", "aria-label": "Answer" }, parts, waiting, trouble, tools);
  article.update = (running, note = "") => {
    message.parts.forEach((part, index) => {
      if (!parts.children[index]) parts.append(VIEWS[part.kind](message, doing));
      parts.children[index].update(part, running && index === message.parts.length - 1);
    });
    article.classList.toggle("running", running);
    article.setAttribute("aria-busy", String(running));
    waiting.hidden = !running || message.parts.length > 0;
    waiting.lastChild.textContent = note;
    tools.hidden = running;
    facts.textContent = factsOf(message);
    showTrouble(trouble, message, doing, running);
  };
  article.update(false);
  return article;
}

function showTrouble(trouble, message, doing, running) {
  trouble.replaceChildren();
  if (running) return;
  if (message.error) {
    const retry = el("button", { type: "button", onclick: () => doing.again(message) }, "Try again");
    trouble.append(el("p", { class: "error" }, icon("alert"), el("span", {}, message.error), retry));
  } else if (!message.parts.length && !message.stopped) {
    trouble.append(el("p", { class: "note" }, "The model ended its answer without a word."));
  }
  if (message.stopped) trouble.append(el("p", { class: "note" }, "Stopped."));
  if (message.finish === "length") trouble.append(el("p", { class: "note" }, "Cut off at the longest length that was allowed."));
}

function factsOf({ model, counted }) {
  const facts = [model];
  if (counted) {
    facts.push(`${grouped(counted.written)} token${counted.written === 1 ? "" : "s"}`);
    if (counted.rate !== null) facts.push(`${counted.rate.toFixed(counted.rate < 10 ? 1 : 0)} tokens/s`);
    if (counted.first !== null) facts.push(`first after ${told(counted.first)}`);
  }
  return facts.filter(Boolean).join(" · ");
}

// ---- when there is nothing yet

const STARTERS = [
  ["Explain something", "Explain how a suspension bridge carries its load, in plain words."],
  ["Write some code", "Write a Python function that finds the longest word in a text file, with a short explanation."],
  ["Compare in a table", "Compare tea and coffee in a Markdown table: taste, caffeine, how to prepare."],
  ["Get started on a text", "Draft a friendly note that invites my neighbours to a small summer party."],
];

function emptyView(onpick) {
  const cards = STARTERS.map(([title, text]) =>
    el("button", { type: "button", onclick: () => onpick(text) }, el("b", {}, title), el("span", {}, text)),
  );
  const logo = icon("logo");
  logo.setAttribute("class", "logo");
  return el(
    "div",
    { class: "empty" },
    logo,
    el("h1", {}, "What shall we begin with?"),
    el("p", {}, "A model answers you on the machine that serves this page. Nothing you write goes anywhere else."),
    el("div", { class: "starters" }, ...cards),
  );
}
