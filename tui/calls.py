"""Tools that a model called on the way to an answer: what it asked, what came of it. Plain data; knows no widgets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Any

from mlxrun.parts import AnswerPart, Arguments, CallBegun, CallEnded, Said

PARAGRAPH = "\n\n"  # between what is said in one round and the next
BROKEN_OFF = "The call was broken off."
DENIED = "The person did not allow this call. Go on without it."


class CallState(StrEnum):
    ASKED = "asked"  # nobody has said yet whether it may run
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class ToolUse:
    id: str
    name: str
    arguments: str = ""  # JSON, as the model wrote it
    round: int = 0
    said: str = ""  # by the model in that round, before its calls
    result: str = ""
    state: CallState = CallState.ASKED


class CallsRead:
    """The calls of one round, out of the parts of an answer."""

    def __init__(self, round: int) -> None:
        self._round, self._said = round, ""
        self._calls: dict[int, ToolUse] = {}
        self._whole: set[int] = set()

    def add(self, parts: Iterable[AnswerPart]) -> None:
        for part in parts:
            match part:
                case Said(text):
                    self._said += text
                case CallBegun(index, id, name):
                    self._calls[index] = ToolUse(id, name, round=self._round)
                case Arguments(index, text):
                    self._calls[index] = replace(self._calls[index], arguments=self._calls[index].arguments + text)
                case CallEnded(index):
                    self._whole.add(index)

    @property
    def whole(self) -> list[ToolUse]:
        """Those that the answer's end did not cut off."""
        return [replace(self._calls[index], said=self._said) for index in sorted(self._whole)]


def written(uses: Sequence[ToolUse]) -> str:
    return json.dumps([asdict(use) for use in uses]) if uses else ""


def read(text: str) -> list[ToolUse]:
    """What cannot be read is left out, so that an odd line on disk costs nobody a conversation."""
    try:
        told = [ToolUse(**one) for one in json.loads(text)] if text else []
        return [replace(use, state=CallState(use.state)) for use in told]
    except (ValueError, TypeError):
        return []


def as_messages(uses: Sequence[ToolUse], content: str) -> list[dict[str, Any]]:
    """An answer with its calls, as a model is told of it: round by round, then what it said at last."""
    told: list[dict[str, Any]] = []
    for _, one_round in groupby(uses, lambda use: use.round):
        calls = list(one_round)
        said = calls[0].said
        told.append({"role": "assistant", "content": said, "tool_calls": [asked(use) for use in calls]})
        told += [{"role": "tool", "tool_call_id": use.id, "content": answer_to(use)} for use in calls]
        content = content.removeprefix(said).removeprefix(PARAGRAPH)
    return [*told, {"role": "assistant", "content": content}] if content else told


def asked(use: ToolUse) -> dict[str, Any]:
    return {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": use.arguments or "{}"}}


def answer_to(use: ToolUse) -> str:
    if use.state is CallState.DENIED:
        return DENIED
    return use.result if use.state in (CallState.DONE, CallState.FAILED) else BROKEN_OFF
