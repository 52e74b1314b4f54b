"""Tools as every dialect takes them: their names, their number, which may or must be called. Knows no dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from ..core import Constraint
from ..turns import Calling, Tool, ToolChoice
from .check import shown
from .errors import ApiError

MOST = 512
NAME = re.compile(r"[\w.:-]{1,128}")
INPUT = "input"  # the property that a custom tool's text travels as


def checked(tools: Sequence[Tool], at: Sequence[str]) -> tuple[Tool, ...]:
    """The same, once they can be told apart. `at`: where each one's name stands in the request."""
    if len(tools) > MOST:
        raise ApiError(400, f"tools must be at most {MOST}, not {len(tools)}.", param="tools")
    seen: set[str] = set()
    for tool, path in zip(tools, at, strict=True):
        if not NAME.fullmatch(tool.name):
            wanted = "1 to 128 letters, digits and signs of _ . : -"
            raise ApiError(400, f"{path} must be {wanted}, not {shown(tool.name)}.", param=path)
        if tool.name in seen:
            raise ApiError(400, f"{path} is {shown(tool.name)}, as another tool's name is already.", param=path)
        kind = tool.parameters.get("type", "object")
        if kind != "object":
            message = f"The parameters of the tool {tool.name!r} must be of the type 'object', not {shown(kind)}."
            raise ApiError(400, message, param="tools")
        seen.add(tool.name)
    return tuple(tools)


def chosen(choice: ToolChoice, tools: Iterable[Tool], param: str = "tool_choice") -> ToolChoice:
    """The same, once there is what it chooses."""
    names = {tool.name for tool in tools}
    if choice.calling is Calling.REQUIRED and not names:
        raise ApiError(400, f"{param} wants a tool to be called, and there are none.", param=param)
    for name in choice.names:
        if name not in names:
            raise ApiError(400, f"{param} names the tool {shown(name)}, which is not among the tools.", param=param)
    return choice


def custom_tool(name: str, description: str, input: Constraint | None) -> Tool:
    """Its input is a text, of that form."""
    parameters = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}
    return Tool(name, description, parameters, input=input, custom=True)


def object_of(arguments: str) -> str:
    """A call of an earlier turn as a JSON object. What is none, as after an answer that was cut off, is kept as a
    text, so that the conversation can go on."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return json.dumps({INPUT: arguments}) if not isinstance(value, dict) else arguments or "{}"


def input_of(arguments: str) -> str:
    """The text of a custom tool's call, of its whole arguments; of cut ones, as far as it came."""
    reader = InputReader()
    return reader.push(arguments)


class InputReader:
    """A custom tool's arguments in pieces, `{"input": TEXT}` cut anywhere; its text in pieces."""

    OPENER = re.compile(r'\s*\{\s*"input"\s*:\s*"')
    WHOLE = re.compile(r'(?:[^"\\]|\\(?:[^u]|u[0-9a-fA-F]{4}))*')  # as far as no escape is cut
    HIGH = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")  # the first half of a character

    def __init__(self) -> None:
        self._kept, self._open, self._ended = "", False, False

    def push(self, arguments: str) -> str:
        if self._ended:
            return ""
        self._kept += arguments
        if not self._open:
            opener = self.OPENER.match(self._kept)
            if opener is None:
                return ""
            self._open, self._kept = True, self._kept[opener.end() :]
        match = self.WHOLE.match(self._kept)
        whole = match[0] if match else ""
        self._ended = self._kept[len(whole) :].startswith('"')
        if not self._ended and (half := self.HIGH.search(whole)):
            whole = whole[: half.start()]
        self._kept = self._kept[len(whole) :]
        return str(json.loads(f'"{whole}"', strict=False))
