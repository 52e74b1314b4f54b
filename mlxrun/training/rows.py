"""JSONL files -> rows of the four usual shapes. A row that is none of them is counted with the reason and its place.

Knows no tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import RequestError
from ..spec import ModelError, shown
from ..text.conversation import turns_of
from ..turns import Role, Tool, Turn
from ..weights.files import size_of, unreadable

MOST_BYTES = 4 << 30  # of a file
MOST_LINE = 64 << 20
NAMED = 5  # broken rows that are told by their place
SHARE = 0.05  # of rows: with more of them broken, nothing is trained
TEXT_KEYS = {"text"}
KEYS = {"messages", "tools", "prompt", "completion", "text", "chosen", "rejected"}
PAIRED = {"prompt", "chosen", "rejected"}


@dataclass(frozen=True, slots=True)
class TextRow:
    """`turns` that end with an assistant's, or a `text` alone."""

    place: str
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    text: str | None = None
    joins: bool = False  # a prompt and its completion: where the model has no chat template, two texts that are joined


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two conversations that differ in their last turn."""

    place: str
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]


@dataclass(slots=True)
class BrokenRows:
    """What could not be used, and why."""

    rows: int = 0  # all that were read
    why: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)

    def add(self, place: str, why: str) -> None:
        self.why[why] += 1
        if len(self.places) < NAMED:
            self.places.append(f"{place}: {why}")

    @property
    def count(self) -> int:
        return self.why.total()

    def refuse_many(self) -> None:
        if self.count > SHARE * self.rows:
            raise ModelError(
                f"{self.count} of {self.rows} rows cannot be used, more than {SHARE:.0%}: {'; '.join(self.places)}"
                f"{'; ...' if self.count > len(self.places) else ''}."
            )


class RowError(ValueError):
    """What is wrong with a row, in a few words."""


def read_rows(files: Sequence[str], broken: BrokenRows, *, pairs: bool) -> Iterator[TextRow | PairRow]:
    for file in files:
        for place, line in _lines(Path(file)):
            broken.rows += 1
            try:
                told = json.loads(line)
                yield _pair(place, told) if pairs else _row(place, told)
            except RowError as error:
                broken.add(place, str(error))
            except RequestError as error:
                broken.add(place, str(error).removesuffix("."))
            except (ValueError, RecursionError):
                broken.add(place, "it is no JSON")


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    if size_of(path) > MOST_BYTES:
        raise ModelError(f"{path.name} is larger than {MOST_BYTES >> 30} GiB; cut it into several files.")
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MOST_LINE):
                number += 1
                if len(line) == MOST_LINE:
                    raise ModelError(f"{path.name}: line {number} has more than {MOST_LINE >> 20} MiB.")
                if line.strip():
                    yield f"{path.name}:{number}", line
    except OSError as error:
        raise unreadable(path, error) from error


def _row(place: str, told: Any) -> TextRow:
    keys = _keys(told)
    if "messages" in keys:
        turns = _turns(told["messages"])
        return TextRow(place, turns, _tools(told.get("tools")))
    if {"prompt", "completion"} <= keys:
        joins = isinstance(told["prompt"], str)
        return TextRow(place, (*_asked(told["prompt"]), _answer(told["completion"])), joins=joins)
    if "text" in keys:
        return TextRow(place, text=_text("text", told["text"]))
    if keys & {"chosen", "rejected"}:
        raise RowError("a row with chosen and rejected is for the objectives dpo and orpo")
    raise RowError("it has no messages, no prompt and completion, and no text")


def _pair(place: str, told: Any) -> PairRow:
    keys = _keys(told)
    if not {"chosen", "rejected"} <= keys:
        raise RowError("it has no chosen and rejected")
    before = _asked(told["prompt"]) if "prompt" in keys else ()
    chosen, rejected = (_answered(before, told[key]) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise RowError("chosen and rejected are the same")
    if chosen[:-1] != rejected[:-1]:
        raise RowError("chosen and rejected must differ in their last message only")
    return PairRow(place, chosen, rejected)


def _keys(told: Any) -> set[str]:
    if not isinstance(told, dict):
        raise RowError("it is no JSON object")
    return {key for key in told if key in KEYS and told[key] is not None}


def _asked(prompt: Any) -> tuple[Turn, ...]:
    return _said(prompt) if isinstance(prompt, list) else (Turn(Role.USER, (_text("prompt", prompt),)),)


def _answered(before: tuple[Turn, ...], answer: Any) -> tuple[Turn, ...]:
    if isinstance(answer, list):
        turns = (*before, *_said(answer))
        return _ending(turns)
    return (*before, _answer(answer))


def _answer(text: Any) -> Turn:
    return Turn(Role.ASSISTANT, (_text("an answer", text),))


def _turns(messages: Any) -> tuple[Turn, ...]:
    return _ending(_said(messages))


def _said(messages: Any) -> tuple[Turn, ...]:
    if not isinstance(messages, list) or not messages:
        raise RowError("messages must be a list that is not empty")
    return turns_of([_with_content(message) for message in messages])


def _with_content(message: Any) -> Any:
    """A call alone may come without content; arguments may be an object."""
    if not isinstance(message, dict) or not message.get("tool_calls"):
        return message
    calls = []
    for number, call in enumerate(message["tool_calls"] if isinstance(message["tool_calls"], list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise RowError("each of tool_calls must have a function")
        given = function.get("arguments", {})
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        calls.append({"id": call.get("id") or f"call_{number}", "function": {**function, "arguments": text}})
    return {**message, "content": message.get("content") or "", "tool_calls": calls}


def _ending(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    if not any(turn.role is Role.ASSISTANT for turn in turns):
        raise RowError("no message of it is an assistant's")
    if turns[-1].role is not Role.ASSISTANT:
        raise RowError("its last message is not an assistant's")
    if any(not isinstance(part, str) for turn in turns for part in turn.content):
        raise RowError("it has pictures, which are not trained on here")
    return turns


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise RowError(f"{name} must be a text that is not empty, not {shown(value)}")
    return value


def _tools(told: Any) -> tuple[Tool, ...]:
    if told is None:
        return ()
    if isinstance(told, str):
        told = json.loads(told)
    if not isinstance(told, list):
        raise RowError("tools must be a list")
    return tuple(map(_tool, told))


def _tool(told: Any) -> Tool:
    function = told.get("function", told) if isinstance(told, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError("each of tools must have a function with a name")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise RowError("the parameters of a tool must be an object")
    return Tool(function["name"], str(function.get("description") or ""), parameters)
