"""The messages of a chat in OpenAI's words: their fields, and the turns that they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...turns import Call, Content, Role, Turn
from ..dialect import Body
from ..errors import ApiError
from ..fields import Schema, either, fixed, flag, lists, neutral, one_of, tagged, text, whole
from ..pictures import from_url
from ..tools import INPUT, object_of

UNHEEDED = "Accepted and ignored: it does not change the answer."
CACHED: dict[str, Schema] = {"prompt_cache_breakpoint": {"type": "object", "description": UNHEEDED}}
TEXT_PART = fixed("type", "text", type=one_of("text"), text=text(), **CACHED)
PICTURE_PART = fixed(
    "type",
    "image_url",
    type=one_of("image_url"),
    image_url=fixed(
        "url",
        url=text("A data URL: data:image/...;base64,... Nothing is fetched."),
        detail={"enum": ["auto", "low", "high", "original"], "description": UNHEEDED},
    ),
    **CACHED,
)
REFUSAL_PART = fixed("type", "refusal", type=one_of("refusal"), refusal=text())
TEXTS = either(text(), lists(TEXT_PART, minItems=1), about="Text; several parts are joined by line ends.")
SAID = either(
    text(), lists(tagged("type", TEXT_PART, PICTURE_PART), minItems=1), about="Text, or parts; pictures as data URLs."
)
ANSWERED = either(text(), lists(tagged("type", TEXT_PART, REFUSAL_PART)), about="Text, or null beside tool_calls.")
NAME = text("Given to the chat template.")
ARGUMENTS = either(text(), {"type": "object"}, about="A JSON object as text, as it was written.")
CALL = tagged(
    "type",
    fixed(
        "function",
        id=text(),
        index=whole(minimum=0),
        type=one_of("function"),
        function=fixed("name", name=text(), arguments=ARGUMENTS),
    ),
    fixed("type", "custom", id=text(), type=one_of("custom"), custom=fixed("name", name=text(), input=text())),
    untagged="function",
)
THOUGHTS = text("The thoughts before an earlier answer; the chat template decides what becomes of them.")
MESSAGE = tagged(
    "role",
    fixed(
        "role",
        "content",
        role=one_of("system", "developer", about="A developer's message is a system message."),
        content=TEXTS,
        name=NAME,
    ),
    fixed("role", "content", role=one_of("user"), content=SAID, name=NAME),
    fixed(
        "role",
        role=one_of("assistant"),
        content=ANSWERED,
        name=NAME,
        reasoning_content=THOUGHTS,
        reasoning=text("The same under another name."),
        tool_calls=lists(CALL, "What this earlier answer called."),
        refusal=text(),
        audio=neutral(None),
        annotations={"type": "array", "items": {}, "description": UNHEEDED},
        function_call=neutral(None),
        prefix=flag("Accepted and ignored: an assistant's message at the end is gone on with."),
    ),
    fixed(
        "role",
        "content",
        "tool_call_id",
        role=one_of("tool", about="What a tool answered."),
        content=TEXTS,
        tool_call_id=text("The id of the call."),
        name=NAME,
    ),
)


def turns_of(messages: Sequence[Body]) -> tuple[Turn, ...]:
    return tuple(_turn(message, f"messages[{index}]") for index, message in enumerate(messages))


def _turn(message: Body, path: str) -> Turn:
    role = Role.SYSTEM if message["role"] == "developer" else Role(message["role"])
    content = _content(message.get("content"), f"{path}.content")
    turn = Turn(role, content, name=message.get("name"), answers=message.get("tool_call_id"))
    if role is not Role.ASSISTANT:
        return turn
    thoughts = message.get("reasoning_content")
    thoughts = message.get("reasoning") if thoughts is None else thoughts
    content = content or _content(message.get("refusal"), path)
    calls = tuple(_call(call) for call in message.get("tool_calls") or ())
    if message.get("content") is None and not (content or calls or thoughts):
        raise ApiError(400, f"{path} must have content or tool_calls.", param=f"{path}.content")
    return Turn(role, content, thoughts, calls, name=turn.name)


def _content(content: Any, path: str) -> tuple[Content, ...]:
    if content is None or isinstance(content, str):
        return () if content is None else (content,)
    return tuple(_part(part, f"{path}[{index}]") for index, part in enumerate(content))


def _part(part: Body, path: str) -> Content:
    if part["type"] == "image_url":
        return from_url(part["image_url"]["url"], f"{path}.image_url.url")
    told: str = part[part["type"]]
    return told


def _call(call: Body) -> Call:
    if call.get("type") == "custom":
        custom = call["custom"]
        return Call(call.get("id") or "", custom["name"], json.dumps({INPUT: custom.get("input") or ""}))
    function = call["function"]
    given = function.get("arguments")
    arguments = json.dumps(given) if isinstance(given, dict) else object_of(given or "")
    return Call(call.get("id") or "", function["name"], arguments)
