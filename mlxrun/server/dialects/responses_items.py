"""The items of a Responses request as turns of a conversation. Knows no model.

What an assistant did in a row, thoughts, texts and calls, is one turn, however its items are mixed: templates
know it so.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...turns import Call, Content, Role, Turn
from ..check import shown
from ..dialect import Body
from ..errors import ApiError
from ..pictures import from_url
from ..tools import INPUT, object_of
from .responses_tools import flat

CARRIER = "mlxrun1:"  # before thoughts and summaries that a client keeps for us
SUMMED_UP = "The conversation so far, summed up:"
SPEAKERS = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}


def carried(text: str) -> str:
    """What a client that keeps nothing readable sends back."""
    return CARRIER + base64.b64encode(text.encode()).decode()


def carried_in(carrier: str) -> str | None:
    """None: another server's."""
    if not carrier.startswith(CARRIER):
        return None
    try:
        return base64.b64decode(carrier[len(CARRIER) :], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


@dataclass
class Draft:
    """An assistant's turn that may still go on."""

    thoughts: list[str] = field(default_factory=list)
    content: list[Content] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def turn(self) -> Turn:
        thoughts = "\n".join(self.thoughts) or None
        return Turn(Role.ASSISTANT, tuple(self.content), thoughts, tuple(self.calls))


class ItemReader:
    """Makes turns, item by item."""

    def __init__(self, instructions: str | None) -> None:
        self.turns: list[Turn] = [Turn(Role.SYSTEM, (instructions,))] if instructions else []
        self.tools: list[tuple[str, Body]] = []  # that came as items, and where
        self._draft: Draft | None = None
        self._names: dict[str, str] = {}  # of calls, by their ids

    def add(self, item: Body, path: str) -> None:
        """One that was checked and is no item_reference: whose item that is, who keeps answers knows."""
        match item.get("type") or "message":
            case "message":
                self._message(item, path)
            case "reasoning":
                self._assistant.thoughts += thoughts_of(item)
            case "function_call":
                self._call(item, object_of(item["arguments"]))
            case "custom_tool_call":
                self._call(item, json.dumps({INPUT: item["input"]}, ensure_ascii=False))
            case "function_call_output" | "custom_tool_call_output":
                self._output(item, path)
            case "compaction":
                self._compaction(item, path)
            case "additional_tools":
                self.tools += [(f"{path}.tools[{index}]", tool) for index, tool in enumerate(item["tools"])]

    def finish(self) -> tuple[Turn, ...]:
        self._end_draft()
        return tuple(self.turns)

    @property
    def _assistant(self) -> Draft:
        if self._draft is None:
            self._draft = Draft()
        return self._draft

    def _end_draft(self) -> None:
        if self._draft is not None:
            self.turns.append(self._draft.turn())
            self._draft = None

    def _message(self, item: Body, path: str) -> None:
        role, content = SPEAKERS[item["role"]], contents(item["content"], f"{path}.content")
        if role is Role.ASSISTANT:
            self._assistant.content += content
            return
        self._end_draft()
        self.turns.append(Turn(role, tuple(content)))

    def _compaction(self, item: Body, path: str) -> None:
        """What stood before it, summed up."""
        summary = carried_in(item["encrypted_content"])
        if summary is None:
            at = f"{path}.encrypted_content"
            raise ApiError(400, f"{at} is not this server's own, so nobody here can read it.", param=at)
        self._end_draft()
        self.turns.append(Turn(Role.SYSTEM, (f"{SUMMED_UP}\n{summary}",)))

    def _call(self, item: Body, arguments: str) -> None:
        name = flat(item["name"], item.get("namespace"))
        self._names[item["call_id"]] = name
        self._assistant.calls.append(Call(item["call_id"], name, arguments))

    def _output(self, item: Body, path: str) -> None:
        named = item["call_id"]
        if named not in self._names:
            message = f"{path}.call_id {shown(named)} is the id of no call before it."
            raise ApiError(400, message, param=f"{path}.call_id")
        self._end_draft()
        content = contents(item["output"], f"{path}.output")
        self.turns.append(Turn(Role.TOOL, tuple(content), answers=named, name=self._names[named]))


def thoughts_of(item: Body) -> list[str]:
    """As they were told; carried, where a client keeps nothing readable; summed up, where that is all there is."""
    if item.get("content"):
        return [part["text"] for part in item["content"]]
    if item.get("encrypted_content"):
        thoughts = carried_in(item["encrypted_content"])
        return [] if thoughts is None else [thoughts]
    return [part["text"] for part in item.get("summary") or ()]


def contents(given: str | Sequence[Body], path: str) -> list[Content]:
    if isinstance(given, str):
        return [given]
    return [content_of(part, f"{path}[{index}]") for index, part in enumerate(given)]


def content_of(part: Body, path: str) -> Content:
    if part["type"] == "input_image":
        return from_url(part["image_url"], f"{path}.image_url")
    return str(part["refusal" if part["type"] == "refusal" else "text"])
