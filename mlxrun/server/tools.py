"""Tools as every dialect takes them: their names, their number, which may or must be called. Knows no dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..core import Constraint
from ..text.tokenizer import well_formed
from ..turns import Calling, Tool, ToolChoice
from .check import shown
from .errors import ApiError

MOST = 512
NAME = re.compile(r"[\w.:-]{1,128}", re.ASCII)
INPUT = "input"  # the property that a custom tool's text travels as
OPENER = re.compile(r'\s*\{\s*"input"\s*:\s*"')
PIECES = re.compile(r'[^"\\]+|\\u[0-9a-fA-F]{4}|\\[^u]')
MAYBE_LOW_HALF = re.compile(r"(\\(u[0-9a-fA-F]{0,3})?)?")  # cut before it can be told
HIGH_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")


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
    """The same, once there is what it chooses. Who names one tool that must be called wants it once: left to itself, a
    small model calls it again and again."""
    names = {tool.name for tool in tools}
    if choice.calling is Calling.REQUIRED and not names:
        raise ApiError(400, f"{param} wants a tool to be called, and there are none.", param=param)
    for name in choice.names:
        if name not in names:
            raise ApiError(400, f"{param} names the tool {shown(name)}, which is not among the tools.", param=param)
    one = choice.calling is Calling.REQUIRED and len(choice.names) == 1
    return replace(choice, parallel=False) if one else choice


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
    reader.push(arguments)
    reader.finish()
    return reader.text


class InputReader:
    """A custom tool's arguments in pieces, `{"input": TEXT}` cut anywhere; its text in pieces."""

    def __init__(self) -> None:
        self._whole, self._rest = "", ""
        self._begun = self._ended = False
        self._told: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._told)

    def push(self, text: str) -> str:
        self._rest += text
        if not self._begun:
            self._whole += text
            found = OPENER.match(self._rest)
            if found is None:
                return ""
            self._begun, self._rest = True, self._rest[found.end() :]
        return self._tell(self._decoded())

    def finish(self) -> str:
        """What is still to be told: all of it, where the object was written in another way."""
        if self._begun:
            return ""
        try:
            told = json.loads(self._whole)
        except (ValueError, RecursionError):
            return ""
        value = told.get("input") if isinstance(told, dict) else None
        return self._tell(value if isinstance(value, str) else self._whole)

    def _tell(self, text: str) -> str:
        self._told.append(text)
        return text

    def _decoded(self) -> str:
        """As far as it is whole: an escape may be cut, and so may a pair of them."""
        if self._ended:
            return ""
        at = 0
        while (found := PIECES.match(self._rest, at)) is not None:
            if HIGH_HALF.fullmatch(found[0]) and MAYBE_LOW_HALF.fullmatch(self._rest, found.end()):
                break
            at = found.end()
        self._ended = self._rest[at : at + 1] == '"'
        whole, self._rest = self._rest[:at], self._rest[at:]
        try:
            return well_formed(str(json.loads(f'"{whole}"', strict=False)))
        except ValueError:  # an escape that JSON does not have
            return whole
