"""Calls rendered by chat templates and read back: what a template wrote as its assistant's turn is what a model writes.

The oracle is the call that was rendered. What a template or a format cannot say is listed with its reason.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from letters import Letters
from written_calls import sources

from mlxrun.core import RequestError
from mlxrun.parts import Arguments, CallBegun, CallEnded, Said, merged
from mlxrun.spec import ModelError
from mlxrun.text.items import Hidden
from mlxrun.text.quoting import Quoting
from mlxrun.text.reasoning_formats import FORMATS as REASONING
from mlxrun.text.reasoning_formats import THINK
from mlxrun.text.router import PartRouter
from mlxrun.text.template import ChatTemplate
from mlxrun.text.tool_formats import FORMATS, CallPlace, ToolFormat
from mlxrun.turns import Tool

BY_ID = {form.id: form for form in FORMATS}
HARMONY = next(form for form in REASONING if form.name == "harmony")
SAID = "I call it."
MARKER = re.compile(r"<[^<>\s{}]+>|\[[A-Z_]+\]|｜DSML｜")
KINDS = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}
Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Written:
    """One answer as a template wrote it, for a tokenizer that has the markers as tokens or has not."""

    template: str
    form: ToolFormat
    tokenizer: Letters
    ids: tuple[int, ...]
    calls: tuple[Call, ...]
    tools: tuple[Tool, ...]
    said: bool  # whether the template wrote what was said before the calls

    @property
    def prompt(self) -> str:
        return "<|start|>assistant" if self.form.id == "harmony" else ""


@cache
def template_of(name: str) -> ChatTemplate:
    return ChatTemplate({"default": sources()[name][1]}, {"bos_token": "", "eos_token": "<|eos|>"})


def markers(form: ToolFormat) -> tuple[str, ...]:
    head = [form.head.text] if hasattr(form.head, "text") else []
    args = [getattr(form.args, name, "") for name in ("open", "close", "quote")]
    texts = [*form.call, *(form.section or ()), form.tail, *head, *args, *form.also]
    found = tuple(dict.fromkeys(found for text in texts if text for found in MARKER.findall(text)))
    return ("｜DSML｜",) if "｜DSML｜" in found else found


@cache
def tokenizers(form: ToolFormat) -> tuple[Letters, ...]:
    """With markers as letters, and as tokens: those with a bar or in capitals are control tokens."""
    found = markers(form)
    controls = tuple(text for text in found if "|" in text or "｜" in text or text.isupper())
    if form.id == "harmony":
        return (Letters((), HARMONY.markers),)
    spelled = Letters((), ())
    return (spelled, Letters(tuple(set(found) - set(controls)), controls)) if found else (spelled,)


def tools_of(calls: Sequence[Call]) -> tuple[Tool, ...]:
    schemas: dict[str, dict[str, Any]] = {}
    for name, arguments in calls:
        own = schemas.setdefault(name, {})
        own |= {key: {"type": KINDS[type(value)]} for key, value in arguments.items()}
    return tuple(Tool(name, "", {"type": "object", "properties": own}) for name, own in schemas.items())


def written(name: str, calls: Sequence[Call], tokenizer: Letters, *, quoted: bool = True) -> Written | None:
    """`quoted`: markers that stand in values are letters, not tokens. None: this template refuses such a turn."""
    form, tools = BY_ID[sources()[name][0]], tools_of(calls)
    quoting = Quoting(tokenizer.added if quoted else ())
    broken = [(call, quoting.within(arguments)) for call, arguments in calls]
    told = [
        {"type": "function", "function": {"name": t.name, "description": "", "parameters": t.parameters}} for t in tools
    ]
    for said in (SAID, "") if form.place is CallPlace.ANYWHERE else ("",):
        for as_text in (False, True):
            called = [_call(at, *call, as_text) for at, call in enumerate(broken)]
            text = _turn(template_of(name), told, {"role": "assistant", "content": said, "tool_calls": called})
            if text is not None and all(call in text for call, _ in calls):
                return Written(
                    name, form, tokenizer, tuple(tokenizer.encode_quoted(text)), tuple(calls), tools, SAID in text
                )
    return None


def _turn(template: ChatTemplate, tools: list[dict[str, Any]], turn: dict[str, Any]) -> str | None:
    """What the template writes as the assistant's."""
    asked = [{"role": "user", "content": "?"}]
    try:
        whole = template.render([*asked, turn], tools=tools, add_generation_prompt=False)
        prompt = template.render(asked, tools=tools)
    except (ModelError, RequestError):
        return None
    if SAID in whole:
        return whole[whole.index(SAID) :]
    same = next((at for at, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(prompt))
    inside = re.search(r"(<[^<>]*|\[[A-Z_]*)$", whole[:same])  # in the middle of a marker
    return whole[inside.start() if inside else same :]


def _call(at: int, name: str, arguments: dict[str, Any], as_text: bool) -> dict[str, Any]:
    told = json.dumps(arguments, ensure_ascii=False) if as_text else arguments
    return {"id": f"abcdefgh{at}", "type": "function", "function": {"name": name, "arguments": told}}


def read(one: Written, groups: Iterator[int]) -> list[Any]:
    """The parts; ids of calls left out."""
    form = HARMONY if one.form.id == "harmony" else THINK
    router = PartRouter(one.tokenizer, form, one.prompt, one.form, one.tools)
    items, at = [], 0
    while at < len(one.ids):
        size = next(groups)
        items += router.push(one.ids[at : at + size])
        at += size
    items += router.finish()
    found = merged(item for item in items if not isinstance(item, Hidden))
    return [(part.index, part.name) if isinstance(part, CallBegun) else part for part in found]


def sizes(seed: int, most: int) -> Iterator[int]:
    drawn = random.Random(seed)
    while True:
        yield drawn.randint(1, most)


def calls_in(parts: Sequence[Any]) -> list[tuple[str, str, bool]]:
    """Name, arguments as they were told, whether the call was ended."""
    found: list[tuple[str, str, bool]] = []
    for part in parts:
        if isinstance(part, tuple):
            assert part[0] == len(found)
            found.append((part[1], "", False))
        elif isinstance(part, Arguments):
            assert part.index == len(found) - 1
            assert not found[-1][2]
            found[-1] = (found[-1][0], found[-1][1] + part.text, False)
        elif isinstance(part, CallEnded):
            assert part.index == len(found) - 1
            found[-1] = (*found[-1][:2], True)
    return found


def said_in(parts: Sequence[Any]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Said))
