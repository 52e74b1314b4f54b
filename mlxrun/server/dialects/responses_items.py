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
from typing import Any

from ...turns import Call, Content, Picture, Role, Turn
from ..check import shown
from ..dialect import Body
from ..errors import ApiError
from .responses_fields import ITEMS, MESSAGE_PARTS, PART, by_type
from .responses_tools import flat

CARRIER = "mlxrun1:"  # before thoughts that a client keeps for us
SPEAKERS = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif")


def carried(thoughts: str) -> str:
    """What a client that keeps nothing readable sends back."""
    return CARRIER + base64.b64encode(thoughts.encode()).decode()


def thoughts_in(carrier: str) -> str | None:
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
        """One that is no item_reference: whose item that is, who keeps answers knows."""
        kind = by_type(item, ITEMS, path, "message")
        match kind:
            case "message":
                self._message(item, path)
            case "reasoning":
                self._assistant.thoughts += thoughts_of(item, path)
            case "function_call":
                self._call(item, arguments_of(item["arguments"], f"{path}.arguments"))
            case "custom_tool_call":
                self._call(item, json.dumps({"input": item["input"]}, ensure_ascii=False))
            case "function_call_output" | "custom_tool_call_output":
                self._output(item, path)
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


def arguments_of(text: str, path: str) -> str:
    """A JSON object as text. What a model wrote and no client could read stays in the conversation as it is."""
    try:
        told: Any = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return json.dumps({"arguments": text}, ensure_ascii=False)
    if not isinstance(told, dict):
        raise ApiError(400, f"{path} must be a JSON object as text, not {shown(told)}.", param=path)
    return text or "{}"


def thoughts_of(item: Body, path: str) -> list[str]:
    """As they were told; carried, where a client keeps nothing readable; summed up, where that is all there is."""
    if item.get("content"):
        return texts(item["content"], f"{path}.content", ("reasoning_text",))
    if item.get("encrypted_content"):
        thoughts = thoughts_in(item["encrypted_content"])
        return [] if thoughts is None else [thoughts]
    return texts(item.get("summary") or (), f"{path}.summary", ("summary_text",))


def texts(parts: Sequence[Body], path: str, kinds: Sequence[str]) -> list[str]:
    schemas = {kind: PART[kind] for kind in kinds}
    for index, part in enumerate(parts):
        by_type(part, schemas, f"{path}[{index}]")
    return [part["text"] for part in parts]


def contents(given: str | Sequence[Body], path: str) -> list[Content]:
    if isinstance(given, str):
        return [given]
    return [content_of(part, f"{path}[{index}]") for index, part in enumerate(given)]


def content_of(part: Body, path: str) -> Content:
    kind = by_type(part, {kind: PART[kind] for kind in MESSAGE_PARTS}, path)
    if kind == "input_image":
        return picture_of(part.get("image_url"), f"{path}.image_url")
    return str(part["refusal" if kind == "refusal" else "text"])


def picture_of(url: str | None, path: str) -> Picture:
    head, found, data = (url or "").partition(";base64,")
    kind = head.removeprefix("data:")
    if not found or kind not in PICTURES:
        message = f"{path} must be a data URL of a picture, such as data:image/png;base64,...; nothing is fetched."
        raise ApiError(400, message, param=path)
    try:
        return Picture(kind, base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"{path} is not valid base64.", param=path) from error
