// Light colours for code: comments, strings, numbers, words of the language. One pattern a language, no parser.

const WORDS = {
  python:
    "and as assert async await break class continue def del elif else except finally for from global if import in is " +
    "lambda match case nonlocal not or pass raise return try while with yield None True False self",
  script:
    "abstract as async await break case catch class const continue default delete do else enum export extends false " +
    "finally for from function if implements import in instanceof interface let new null of private protected public " +
    "readonly return static super switch this throw true try type typeof undefined var void while yield",
  c:
    "alignas auto bool break case catch char class const constexpr continue default delete do double else enum extern " +
    "false float for fn func go if impl import include inline int interface let long match mod mut namespace new nil " +
    "null nullptr override package private protected pub public return self short signed sizeof static struct super " +
    "switch template this throw trait true try type typedef typename union unsigned use using var virtual void where " +
    "while defer guard protocol extension init val when data object final abstract extends implements foreach string",
  shell:
    "case do done elif else esac export fi for function if in local return set then until while cd echo sudo",
  sql:
    "add all alter and as asc between by case create delete desc distinct drop else end exists from full group having " +
    "in index inner insert into is join key left like limit not null on or order outer primary right select set table " +
    "then union unique update values view when where with",
  data: "true false null yes no on off",
};

const STRING = String.raw`"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?`;
const NUMBER = String.raw`\b(?:0[xX][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\b`;
const COMMENTS = {
  hash: String.raw`#[^\n]*`,
  slashes: String.raw`\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)`,
  dashes: String.raw`--[^\n]*|\/\*[^]*?(?:\*\/|$)`,
};
const LONG = String.raw`"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|`;
const TEMPLATE = "|`(?:\\\\.|[^`\\\\])*`?";

function language(comment, strings, words, flags = "") {
  const parts = [`(${comment})`, `(${strings})`, `(${NUMBER})`, `\\b(${words.split(" ").join("|")})\\b`, String.raw`\b([A-Za-z_]\w*)(?=\()`];
  return { pattern: new RegExp(parts.join("|"), `g${flags}`), kinds: ["note", "text", "number", "word", "call"] };
}

const PYTHON = language(COMMENTS.hash, LONG + STRING, WORDS.python);
const SCRIPT = language(COMMENTS.slashes, STRING + TEMPLATE, WORDS.script);
const C = language(COMMENTS.slashes, STRING, WORDS.c);
const SHELL = language(String.raw`(?<![^\s])#[^\n]*`, STRING, WORDS.shell);
const SQL = language(COMMENTS.dashes, STRING, WORDS.sql, "i");
const DATA = language(String.raw`(?<![^\s])#[^\n]*`, STRING, WORDS.data);
const STYLE = language(String.raw`\/\*[^]*?(?:\*\/|$)`, STRING, "important media supports keyframes root");
const MARKUP = {
  pattern: /(<!--[^]*?(?:-->|$))|("[^"\n]*"|'[^'\n]*')|(<\/?[A-Za-z][\w:-]*|\/?>)/g,
  kinds: ["note", "text", "word"],
};
const DIFF = { pattern: /^(@@[^\n]*|(?:---|\+\+\+)[^\n]*)|^(\+[^\n]*)|^(-[^\n]*)/gm, kinds: ["note", "added", "gone"] };

const LANGUAGES = new Map(
  [
    [PYTHON, "python py python3 ruby rb r julia elixir nim"],
    [SCRIPT, "javascript js jsx typescript ts tsx mjs node"],
    [C, "c cpp c++ h hpp objc java kotlin kt scala swift rust rs go golang csharp cs php dart zig metal glsl"],
    [SHELL, "bash sh shell zsh console fish dockerfile makefile make powershell"],
    [SQL, "sql sqlite postgresql mysql"],
    [DATA, "json jsonc json5 yaml yml toml ini"],
    [STYLE, "css scss less"],
    [MARKUP, "html xml svg vue jsx-html"],
    [DIFF, "diff patch"],
  ].flatMap(([found, names]) => names.split(" ").map((name) => [name, found])),
);
const MOST_COLOURED = 30000; // characters: longer code stays plain, so that a stream of it stays quick

function highlighted(code, name) {
  const found = LANGUAGES.get(name.toLowerCase());
  if (!found || code.length > MOST_COLOURED) return [code];
  const nodes = [];
  let at = 0;
  for (const match of code.matchAll(found.pattern)) {
    if (!match[0]) continue;
    if (match.index > at) nodes.push(code.slice(at, match.index));
    const kind = found.kinds[match.slice(1).findIndex((group) => group !== undefined)];
    nodes.push(el("span", { class: `hl-${kind}` }, match[0]));
    at = match.index + match[0].length;
  }
  nodes.push(code.slice(at));
  return nodes;
}
