"""A conversation as text for elsewhere: Markdown, JSON, HTML; and the code in a message. Knows no widgets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from . import attach
from .sessions import ChatTurn

FENCE = re.compile(
    r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n]*\n(.*?)(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
ENDINGS = {
    "python": "py", "py": "py", "javascript": "js", "js": "js", "typescript": "ts",
    "bash": "sh", "sh": "sh", "shell": "sh",
    "rust": "rs", "c++": "cpp", "cpp": "cpp", "c": "c", "html": "html", "css": "css", "json": "json", "yaml": "yaml",
    "toml": "toml", "sql": "sql", "markdown": "md", "md": "md", "go": "go", "java": "java", "swift": "swift",
}  # fmt: skip
KIND = "mlxrun conversation"
STYLE = (
    "body{max-width:46rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:#2d2a26;"
    "background:#fbf9f5}pre{white-space:pre-wrap;font:inherit;margin:0}section{margin:1rem 0;padding:.6rem 1rem}"
    ".user{background:#f2eee7;border-left:3px solid #a9560f}.note{color:#2c7566}small,details{color:#746c61}"
    "@media(prefers-color-scheme:dark){body{color:#d9d5ce;background:#161513}.user{background:#1f1d1a}"
    "small,details{color:#9a9286}.note{color:#7cb8a8}}"
)


@dataclass(frozen=True, slots=True)
class CodeBlock:
    language: str
    code: str


def code_blocks(text: str) -> list[CodeBlock]:
    return [CodeBlock(match[2].lower(), match[3]) for match in FENCE.finditer(text)]


def file_for(block: CodeBlock) -> str:
    return f"block.{ENDINGS.get(block.language, 'txt')}"


def quoted(text: str) -> str:
    return "\n".join(f"> {line}" if line else ">" for line in text.strip().split("\n"))


def exported(title: str, turns: Sequence[ChatTurn], system: str, form: str) -> str:
    return {"md": as_markdown, "json": as_json, "html": as_html}[form](title, turns, system)


def who(turn: ChatTurn) -> str:
    return {"user": "You", "note": "Note"}.get(turn.role) or turn.model or "The model"


def as_markdown(title: str, turns: Sequence[ChatTurn], system: str) -> str:
    parts = [f"# {title}"]
    if system:
        parts.append(f"*System prompt:*\n\n{quoted(system)}")
    for turn in turns:
        parts.append(f"## {who(turn)}")
        if turn.reasoning:
            parts.append(f"<details><summary>Thoughts</summary>\n\n{turn.reasoning.strip()}\n\n</details>")
        parts.append(attach.with_files(turn.content.strip(), attach.read(turn.files)))
    return "\n\n".join(parts) + "\n"


def as_json(title: str, turns: Sequence[ChatTurn], system: str) -> str:
    told = [
        {
            "role": turn.role, "content": turn.content, "reasoning": turn.reasoning, "model": turn.model,
            "finish": turn.finish, "tokens": turn.tokens, "keeps": turn.keeps, "files": turn.files,
        }
        for turn in turns
    ]  # fmt: skip
    return json.dumps({"kind": KIND, "title": title, "system": system, "messages": told}, ensure_ascii=False, indent=1)


def as_html(title: str, turns: Sequence[ChatTurn], system: str) -> str:
    """Nothing that a model wrote is obeyed: all of it is escaped."""
    parts = [f"<details><summary>System prompt</summary><pre>{escape(system)}</pre></details>"] if system else []
    for turn in turns:
        thoughts = f"<details><summary>Thoughts</summary><pre>{escape(turn.reasoning)}</pre></details>"
        text = attach.with_files(turn.content, attach.read(turn.files))
        parts.append(
            f'<section class="{escape(turn.role)}"><small>{escape(who(turn))}</small>'
            f"{thoughts if turn.reasoning else ''}<pre>{escape(text)}</pre></section>"
        )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = f"<h1>{escape(title)}</h1>" + "\n".join(parts)
    return f"<!doctype html><html><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>\n"
