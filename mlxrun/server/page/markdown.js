// Markdown to elements: the blocks. Text stays text, whatever it holds; what is not known here, HTML included, is
// shown as it was written.

const MOST_DEPTH = 8; // lists in quotes in lists; what is deeper is text

// ---- blocks: each reader takes lines from `at` on and returns [block, next line], or null where it is none

const indentOf = (line) => line.length - line.trimStart().length;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=\s|$)/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;

function readFence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const indent = indentOf(lines[at]);
  const close = new RegExp(`^ {0,3}${open[1][0]}{${open[1].length},}\\s*$`);
  const code = [];
  let next = at + 1;
  while (next < lines.length && !close.test(lines[next])) {
    code.push(lines[next].slice(Math.min(indent, indentOf(lines[next]))));
    next += 1;
  }
  const name = open[2].trim().split(/\s/, 1)[0].replace(/[{},]/g, "").slice(0, 24);
  return [{ type: "code", name, text: code.join("\n") }, Math.min(next + 1, lines.length)];
}

function readHeading(lines, at) {
  const open = HEADING.exec(lines[at]);
  if (!open) return null;
  const text = lines[at].slice(open[0].length).trim().replace(/(^|\s)#+$/, "");
  return [{ type: "heading", level: open[1].length, text: text.trim() }, at + 1];
}

function readRule(lines, at) {
  return RULE.test(lines[at].trimEnd()) ? [{ type: "rule" }, at + 1] : null;
}

function readQuote(lines, at, depth) {
  if (!QUOTE.test(lines[at])) return null;
  const inner = [];
  let next = at;
  while (next < lines.length && lines[next].trim() && (QUOTE.test(lines[next]) || !beginsBlock(lines, next))) {
    inner.push(lines[next].replace(QUOTE, ""));
    next += 1;
  }
  return [{ type: "quote", blocks: readBlocks(inner, depth + 1) }, next];
}

function readList(lines, at, depth) {
  const open = ITEM.exec(lines[at]);
  if (!open) return null;
  const sameKind = (mark) => mark.at(-1) === open[2].at(-1);
  const items = [];
  let next = at;
  let loose = false;
  while (next < lines.length) {
    const mark = ITEM.exec(lines[next]);
    if (!mark || !sameKind(mark[2])) break;
    const item = readItem(lines, next, mark, depth);
    items.push(item);
    loose ||= item.loose || (item.blankAfter && item.next < lines.length && ITEM.test(lines[item.next]));
    next = item.next;
  }
  const ordered = open[2].length > 1;
  return [{ type: "list", ordered, start: ordered ? parseInt(open[2], 10) : 1, loose, items }, next];
}

function readItem(lines, at, mark, depth) {
  const space = mark[3].length > 4 || !mark[3] ? 1 : mark[3].length;
  const width = mark[1].length + mark[2].length + space;
  const inner = [lines[at].slice(Math.min(width, lines[at].length))];
  let next = at + 1;
  let blank = false;
  while (next < lines.length) {
    const line = lines[next];
    const indent = indentOf(line);
    if (!line.trim()) blank = true;
    else if (indent >= width) blank = false;
    else if (indent >= mark[1].length + 2 && ITEM.test(line.trimStart())) blank = false; // nested by fewer spaces than it should
    else if (blank || ITEM.test(line) || beginsBlock(lines, next)) break;
    inner.push(line.slice(Math.min(width, indent)));
    next += 1;
  }
  while (inner.length && !inner.at(-1).trim()) inner.pop();
  const task = /^\[([ xX])\]\s/.exec(inner[0] ?? "");
  if (task) inner[0] = inner[0].slice(task[0].length);
  const blocks = readBlocks(inner, depth + 1);
  const paragraphs = blocks.filter((block) => block.type === "paragraph").length;
  return { blocks, next, loose: paragraphs > 1, blankAfter: blank, task: task && task[1] !== " " ? "done" : task && "open" };
}

function cellsOf(line) {
  const cells = [];
  let cell = "";
  let code = false;
  for (let at = 0; at < line.length; at += 1) {
    if (line[at] === "\\" && line[at + 1] === "|") {
      cell += "|";
      at += 1;
    } else if (line[at] === "|" && !code) {
      cells.push(cell.trim());
      cell = "";
    } else {
      if (line[at] === "`") code = !code;
      cell += line[at];
    }
  }
  cells.push(cell.trim());
  if (!cells[0]) cells.shift();
  if (cells.length && !cells.at(-1)) cells.pop();
  return cells;
}

function isTable(lines, at) {
  if (at + 1 >= lines.length || !lines[at].includes("|") || !/^[\s|:-]+$/.test(lines[at + 1])) return false;
  const rule = cellsOf(lines[at + 1].trim());
  return rule.length > 0 && rule.every((cell) => /^:?-+:?$/.test(cell)) && cellsOf(lines[at].trim()).length === rule.length;
}

function readTable(lines, at) {
  if (!isTable(lines, at)) return null;
  const sides = cellsOf(lines[at + 1].trim()).map((cell) => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return "left";
  });
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].includes("|")) {
    const cells = cellsOf(lines[next].trim());
    rows.push(sides.map((_, column) => cells[column] ?? ""));
    next += 1;
  }
  return [{ type: "table", head: cellsOf(lines[at].trim()), sides, rows }, next];
}

function readParagraph(lines, at) {
  let next = at + 1;
  while (next < lines.length && lines[next].trim() && !beginsBlock(lines, next)) next += 1;
  const text = lines.slice(at, next).map((line) => line.trimStart()).join("\n");
  return [{ type: "paragraph", text: text.trimEnd() }, next];
}

function beginsBlock(lines, at) {
  const line = lines[at];
  if (FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line.trimEnd()) || isTable(lines, at)) return true;
  const item = ITEM.exec(line);
  return Boolean(item && item[3] && (item[2].length === 1 || parseInt(item[2], 10) === 1));
}

const READERS = [readFence, readHeading, readRule, readQuote, readList, readTable];

// Blocks, each with the text that it was read from: who shows a growing text makes anew only what changed.
function readBlocks(lines, depth = 0) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    let read = null;
    for (const reader of depth < MOST_DEPTH ? READERS : []) read ??= reader(lines, at, depth);
    const [block, next] = read ?? readParagraph(lines, at);
    blocks.push({ ...block, source: lines.slice(at, next).join("\n") });
    at = next;
  }
  return blocks;
}

// ---- blocks to elements

function codeFigure(name, text, label = name) {
  const copy = copyButton(() => text, "Copy the code");
  const bar = el("figcaption", {}, el("span", {}, label || "text"), copy);
  return el("figure", { class: "code" }, bar, el("pre", { tabindex: "0" }, el("code", {}, ...highlighted(text, name))));
}

function tableOf(block) {
  const cell = (tag) => (text, column) => el(tag, { class: `to-${block.sides[column]}` }, ...inline(text));
  const head = el("thead", {}, el("tr", {}, ...block.head.map(cell("th"))));
  const rows = block.rows.map((row) => el("tr", {}, ...row.map(cell("td"))));
  return el("div", { class: "wide", tabindex: "0" }, el("table", {}, head, el("tbody", {}, ...rows)));
}

function itemOf(item, loose) {
  const children = item.blocks.flatMap((block) =>
    block.type === "paragraph" && !loose ? inline(block.text) : [elementOf(block)],
  );
  if (!item.task) return el("li", {}, ...children);
  const box = el("input", { type: "checkbox", disabled: true, checked: item.task === "done" });
  return el("li", { class: "task" }, box, ...children);
}

function elementOf(block) {
  switch (block.type) {
    case "code":
      return codeFigure(block.name, block.text);
    case "heading":
      return el(`h${Math.min(block.level + 2, 6)}`, { class: `h${block.level}` }, ...inline(block.text));
    case "rule":
      return el("hr");
    case "quote":
      return el("blockquote", {}, ...block.blocks.map(elementOf));
    case "list": {
      const items = block.items.map((item) => itemOf(item, block.loose));
      return block.ordered ? el("ol", { start: block.start }, ...items) : el("ul", {}, ...items);
    }
    case "table":
      return tableOf(block);
    default:
      return el("p", {}, ...inline(block.text));
  }
}

// Tabs count as four spaces, but in code, which is shown as it is.
function linesOf(text) {
  let fence = null;
  return text.split(/\r\n?|\n/).map((line) => {
    const mark = /^\s*(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence) {
      if (mark?.startsWith(fence)) fence = null;
      return line;
    }
    fence = mark ?? null;
    return line.replace(/^\s*/, (space) => space.replace(/\t/g, "    "));
  });
}

// Shows a text in `holder`, which may show a shorter one already: blocks that did not change stay as they are.
function showMarkdown(holder, text) {
  const blocks = readBlocks(linesOf(text));
  const shown = (holder.blocks ??= []);
  blocks.forEach((block, index) => {
    if (shown[index] === block.source) return;
    const made = elementOf(block);
    if (index < holder.children.length) holder.children[index].replaceWith(made);
    else holder.append(made);
    shown[index] = block.source;
  });
  while (holder.children.length > blocks.length) holder.lastElementChild.remove();
  shown.length = blocks.length;
}
