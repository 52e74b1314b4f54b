"""docs/python.md out of the docstrings and signatures of what is public: python docs/python_page.py writes it."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlxrun.client
from mlxrun.client import Client
from mlxrun.client.options import AnswerOptions

PAGE = Path(__file__).with_name("python.md")
GROUPS = {
    "Answers": ("chat", "chat_many", "stream", "complete", "complete_many", "stream_complete"),
    "What a text looks like to the model": ("tokenize", "detokenize", "score", "embed", "rerank", "trace"),
    "What is said in a sound": ("transcribe",),
    "For asyncio": (
        *("achat", "achat_many", "acomplete", "astream", "astream_complete"),
        *("ascore", "aembed", "arerank", "atranscribe"),
    ),
    "The rest": ("models", "memory", "statistics", "close"),
}
HEAD = """# From Python

<!-- made by docs/python_page.py of the docstrings; `make python-doc` writes it anew -->

`mlxrun.load` has a model in this process, `mlxrun.connect` asks a server; both give a `Client` with the same methods.
Every example below is run by the tests, with the starter model. What makes no sense is a `RequestError`, in a sentence,
before anything is computed; a model that breaks or a server that leaves is a `ClientError`, whose `reply` is what came.

In a notebook a reply, a score and the memory show themselves, `%load_ext mlxrun` brings `%%chat`, and
[notebooks/](../notebooks) has examples.
"""


def functions() -> dict[str, Callable[..., Any]]:
    """Everything public that is called, by name."""
    own = {"load": mlxrun.client.load, "connect": mlxrun.client.connect}
    methods = inspect.getmembers(Client, inspect.isfunction)
    return own | {f"Client.{name}": method for name, method in methods if not name.startswith("_")}


def section(name: str, function: Callable[..., Any]) -> str:
    text = inspect.getdoc(function) or ""
    blocks = []
    for block in text.split("\n\n"):
        blocks.append(f"```python\n{block}\n```" if block.startswith(">>>") else block)
    return f"### {name}\n\n```python\n{signature(name, function)}\n```\n\n" + "\n\n".join(blocks) + "\n"


def signature(name: str, function: Callable[..., Any]) -> str:
    """As it stands in the source, on lines of its own where it is long."""
    told = inspect.signature(function)
    parts, named = [], False
    for part in told.parameters.values():
        if part.name == "self":
            continue
        if part.kind is part.KEYWORD_ONLY and not named:
            parts, named = [*parts, "*"], True
        default = "" if part.default is part.empty else f" = {part.default!r}"
        hint = f": {part.annotation}" if part.kind is not part.VAR_KEYWORD else ""
        parts.append(f"{'**' * (not hint)}{part.name}{hint}{default}")
    kind = "async " if inspect.iscoroutinefunction(function) else ""
    start, end = f"{kind}{name.rpartition('.')[2]}(", f") -> {told.return_annotation}"
    line = start + ", ".join(parts) + end
    return line if len(line) < 100 else start + "\n    " + ",\n    ".join(parts) + "\n" + end


def options() -> str:
    lines = inspect.getsource(AnswerOptions).splitlines()
    return (
        "### options\n\n"
        + (AnswerOptions.__doc__ or "")
        + "\n\n```python\n"
        + textwrap.dedent("\n".join(line for line in lines if re.match(r"    \w+: ", line)))
        + "\n```\n"
    )


def page() -> str:
    found = functions()
    parts = [HEAD, "## A model\n", section("mlxrun.load", found["load"]), section("mlxrun.connect", found["connect"])]
    for title, names in GROUPS.items():
        parts += [f"## {title}\n", *(section(name, found[f"Client.{name}"]) for name in names)]
        if title == "Answers":
            parts.append(options())
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
