"""An `Ask`'s turns as one model's chat template wants its messages. Knows no tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..core import RequestError
from ..turns import Call, Picture, Tool, Turn


def messages_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [_message(turn) for turn in turns]


def _message(turn: Turn) -> dict[str, Any]:
    if any(isinstance(part, Picture) for part in turn.content):
        raise RequestError("This model sees no pictures.")
    told: dict[str, Any] = {"role": str(turn.role), "content": turn.text}
    more = {"name": turn.name, "reasoning_content": turn.thoughts, "tool_call_id": turn.answers}
    told |= {key: value for key, value in more.items() if value is not None}
    if turn.calls:
        told["tool_calls"] = [_call(call) for call in turn.calls]
    return told


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}


def tools_of(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """As every template knows them."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]
