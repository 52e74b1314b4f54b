// Elements, without a way to make any of text: nothing that a model writes is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

// el("a", { href, class: "x", onclick() {} }, "text", otherElement)
function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

function setIcon(holder, name) {
  holder.querySelector("use").setAttribute("href", `#i-${name}`);
}

function iconButton(name, label, onclick, more = {}) {
  return el("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...more }, icon(name));
}

const byId = (id) => document.getElementById(id);

// For those who hear the page: said once, when there is something to say.
function announce(text) {
  byId("live").textContent = text;
}

function fitHeight(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // a page that came over plain HTTP from another machine has no clipboard of its own
    const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function copyButton(textOf, label = "Copy") {
  const button = iconButton("copy", label, async () => {
    await copyText(textOf());
    setIcon(button, "done");
    announce("Copied.");
    setTimeout(() => setIcon(button, "copy"), 1500);
  });
  return button;
}

// One question with two answers; resolves to whether it was yes.
function sure(title, text, yes) {
  const dialog = byId("sure");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("p").textContent = text;
  dialog.querySelector(".danger").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

const grouped = (number) => number.toLocaleString("en-US");

function told(seconds) {
  if (seconds < 0.95) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 60 ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
