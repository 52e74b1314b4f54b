// Markdown within a line: emphasis, code, links.
//
// Links lead only to http, https and mail. A picture becomes a link to it, so that nothing is loaded because a model
// said so. Every reader looks at a character a bounded number of times: a text that is made to be slow is not.

const MOST_LABEL = 400; // characters of a link's label
const MOST_INLINE = 20000; // characters of one paragraph that is read for emphasis and links

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", "#39": "'" };
const SPECIAL = /[\\`*_~[!<&\n]|https?:\/\//g;

function inline(text, depth = 0) {
  if (depth > MOST_DEPTH || text.length > MOST_INLINE) return [text];
  const nodes = [];
  const closerless = new Set(); // marks that nothing closes from here on: they are not looked for again
  let at = 0;
  let plain = 0;
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const found = SPECIAL.exec(text);
    if (!found) break;
    at = found.index;
    const read = readInline(text, at, depth, closerless);
    if (!read) {
      at += found[0].length;
      continue;
    }
    if (at > plain) nodes.push(text.slice(plain, at));
    nodes.push(...read[0]);
    at = plain = read[1];
  }
  if (plain < text.length) nodes.push(text.slice(plain));
  return nodes;
}

// [nodes, where it goes on], or null: that character stands for itself
function readInline(text, at, depth, closerless) {
  switch (text[at]) {
    case "\\":
      if (text[at + 1] === "\n") return [[el("br")], at + 2];
      return /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") && !"()[]".includes(text[at + 1]) ? [[text[at + 1]], at + 2] : null;
    case "\n":
      return [[el("br")], at + 1];
    case "`":
      return readCode(text, at);
    case "!":
      return text[at + 1] === "[" ? readLink(text, at + 1, depth, true) : null;
    case "[":
      return readLink(text, at, depth, false);
    case "<":
      return readAutolink(text, at);
    case "&": {
      const entity = /&(#?\w{1,8});/y;
      entity.lastIndex = at;
      const name = entity.exec(text)?.[1];
      return name && Object.hasOwn(ENTITIES, name) ? [[ENTITIES[name]], at + name.length + 2] : null;
    }
    case "h":
      return readBareLink(text, at);
    default:
      return readEmphasis(text, at, depth, closerless);
  }
}

function runAt(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

function readCode(text, at) {
  const length = runAt(text, at);
  let end = at + length;
  while ((end = text.indexOf("`", end)) !== -1) {
    const other = runAt(text, end);
    if (other === length) {
      const code = text.slice(at + length, end).replace(/\n/g, " ");
      const padded = code.length > 2 && code.startsWith(" ") && code.endsWith(" ") && code.trim();
      return [[el("code", {}, padded ? code.slice(1, -1) : code)], end + length];
    }
    end += other;
  }
  return [["`".repeat(length)], at + length];
}

const EMPHASIS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "del" };

function readEmphasis(text, at, depth, closerless) {
  const run = runAt(text, at);
  const mark = text[at].repeat(Math.min(run, 2));
  const past = [[text[at].repeat(run)], at + run]; // of a run that marks nothing
  if (!EMPHASIS[mark] || closerless.has(mark) || /\s|^$/.test(text[at + run] ?? "")) return past;
  if (mark[0] === "_" && /[\p{L}\p{N}]/u.test(text[at - 1] ?? "")) return past;
  const end = closerOf(text, at + run, mark, run > 2);
  if (end === -1) {
    closerless.add(mark);
    return past;
  }
  return [[el(EMPHASIS[mark], {}, ...inline(text.slice(at + mark.length, end), depth + 1))], end + mark.length];
}

function closerOf(text, from, mark, both) {
  for (let at = from; at < text.length; ) {
    if (text[at] === "\\") at += 2;
    else if (text[at] === "`") at = readCode(text, at)[1];
    else if (text[at] === mark[0]) {
      const run = runAt(text, at);
      const closes = !/\s/.test(text[at - 1]) && (mark.length === 1 ? run !== 2 : run >= 2);
      const inWord = mark[0] === "_" && /[\p{L}\p{N}]/u.test(text[at + run] ?? "");
      if (closes && !inWord) return both ? at + run - mark.length : at;
      at += run;
    } else at += 1;
  }
  return -1;
}

function safeUrl(text) {
  try {
    const url = new URL(text);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(href, ...children) {
  return el("a", { href, rel: "noopener noreferrer nofollow", target: "_blank", title: href.slice(0, 300) }, ...children);
}

function readLink(text, at, depth, picture) {
  const label = bracketed(text, at, "[", "]", MOST_LABEL);
  if (label === null || text[at + label.length + 2] !== "(") return null;
  const inside = bracketed(text, at + label.length + 2, "(", ")", 4 * MOST_LABEL);
  if (inside === null) return null;
  const end = at + label.length + inside.length + 4;
  const target = /^\s*(?:<([^<>\n]*)>|(\S*))/.exec(inside);
  const href = safeUrl(target[1] ?? target[2] ?? "");
  const begin = picture ? at - 1 : at;
  if (href === null) return [[text.slice(begin, end)], end];
  if (picture) return [[link(href, icon("picture"), label.trim() || "picture")], end];
  return [[link(href, ...inline(label, Math.max(depth + 1, MOST_DEPTH - 1)))], end];
}

// What stands between two brackets that belong together
function bracketed(text, at, open, close, most) {
  let depth = 0;
  for (let end = at; end < text.length && end < at + most; end += 1) {
    if (text[end] === "\\") end += 1;
    else if (text[end] === open) depth += 1;
    else if (text[end] === close && (depth -= 1) === 0) return text.slice(at + 1, end);
  }
  return null;
}

function readAutolink(text, at) {
  const found = /<br ?\/?>|<(https?:\/\/[^\s<>]+|mailto:[^\s<>]+)>/iy;
  found.lastIndex = at;
  const match = found.exec(text);
  if (!match) return null;
  if (!match[1]) return [[el("br")], at + match[0].length]; // the one tag that models write in tables
  const href = safeUrl(match[1]);
  return href && [[link(href, match[1])], at + match[0].length];
}

function readBareLink(text, at) {
  const found = /https?:\/\/[^\s<>"'`]{1,2000}/y;
  found.lastIndex = at;
  let url = found.exec(text)?.[0] ?? "";
  const count = (letter) => url.split(letter).length;
  // what ends a sentence or closes a bracket round the address is no part of it
  while (/[.,;:!?*_~|\]]$/.test(url) || (url.endsWith(")") && count(")") > count("("))) url = url.slice(0, -1);
  const href = safeUrl(url);
  return href && [[link(href, url)], at + url.length];
}
