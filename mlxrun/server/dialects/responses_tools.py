"""The tools of a Responses request: their names as the model knows them, and as the client does.

A namespace's tools are flattened, `namespace__name`, and a call of one is told with both names again. Tools that
OpenAI hosts are left out and told: agents send them always and do well without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...core import Constraint, Shape
from ...turns import Calling, Tool, ToolChoice
from ..check import shown
from ..dialect import Body
from ..errors import ApiError
from .responses_fields import CHOICES, FUNCTION, HOSTED, INPUT, MAX_TOOLS, NAME, TOOLS, by_type

NO_PARAMETERS = {"type": "object", "properties": {}}
ONE_TEXT = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
SYNTAXES = {"lark": Shape.LARK, "regex": Shape.REGEX}


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool as the client knows it."""

    tool: Tool
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Toolbox:
    offered: dict[str, OfferedTool]  # by the name that the model knows
    told: tuple[Body, ...]  # as the request has them, without what was left out
    left_out: tuple[str, ...]

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(offered.tool for offered in self.offered.values())


def flat(name: str, namespace: str | None) -> str:
    return f"{namespace}__{name}" if namespace else name


def toolbox_of(given: Sequence[tuple[str, Body]]) -> Toolbox:
    """Of the tools and where in the request each stands."""
    offered: dict[str, OfferedTool] = {}
    told: list[Body] = []
    left_out: list[str] = []
    for path, tool in given:
        if hosted(tool):
            left_out.append(f"{path.partition('[')[0]}[{tool['type']}]")
            continue
        told.append(tool)
        for at, one in tools_in(tool, path):
            if not re.fullmatch(NAME, one.tool.name):
                message = f"{at}.name must be 1 to 128 letters, digits and _ . : -, not {shown(one.tool.name)}."
                raise ApiError(400, message, param=f"{at}.name")
            if one.tool.name in offered:
                raise ApiError(400, f"{at}.name {shown(one.tool.name)} is used twice.", param=f"{at}.name")
            offered[one.tool.name] = one
    if len(offered) > MAX_TOOLS:
        raise ApiError(400, f"tools must hold at most {MAX_TOOLS}, not {len(offered)}.", param="tools")
    return Toolbox(offered, tuple(told), tuple(left_out))


def hosted(tool: Body) -> bool:
    kind = tool.get("type")
    return isinstance(kind, str) and kind.startswith(HOSTED)


def tools_in(tool: Body, path: str) -> Iterator[tuple[str, OfferedTool]]:
    kind = by_type(tool, TOOLS, path)
    if kind != "namespace":
        yield path, OfferedTool(tool_of(tool, kind, tool["name"], path), tool["name"])
        return
    for index, inner in enumerate(tool["tools"]):
        at, own = f"{path}.tools[{index}]", tool["name"]
        kind = by_type(inner, {"function": FUNCTION, "custom": TOOLS["custom"]}, at)
        yield at, OfferedTool(tool_of(inner, kind, flat(inner["name"], own), at), inner["name"], own)


def tool_of(tool: Body, kind: str, name: str, path: str) -> Tool:
    about = tool.get("description") or ""
    if kind == "function":
        return Tool(name, about, tool.get("parameters") or NO_PARAMETERS, strict=bool(tool.get("strict")))
    return Tool(name, about, ONE_TEXT, input=input_of(tool.get("format"), f"{path}.format"), custom=True)


def input_of(form: Body | None, path: str) -> Constraint | None:
    if form is None or by_type(form, INPUT, path) == "text":
        return None
    return Constraint(SYNTAXES[form["syntax"]], form["definition"])


def choice_of(body: Body, box: Toolbox) -> ToolChoice:
    parallel = body.get("parallel_tool_calls") is not False
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, str):
        if choice == "required" and not box.offered:
            message = "tool_choice is required, and none of the tools can be called."
            raise ApiError(400, message, param="tool_choice")
        return ToolChoice(Calling(choice), parallel=parallel)
    if hosted(choice):
        message = f"tool_choice asks for {shown(choice['type'])}, a tool that OpenAI hosts; there is none here."
        raise ApiError(400, message, param="tool_choice")
    if by_type(choice, CHOICES, "tool_choice") != "allowed_tools":
        return ToolChoice(Calling.REQUIRED, (chosen(choice, box, "tool_choice"),), parallel)
    names = []
    for index, one in enumerate(choice["tools"]):
        if not hosted(one):
            path = f"tool_choice.tools[{index}]"
            by_type(one, {kind: CHOICES[kind] for kind in ("function", "custom")}, path)
            names.append(chosen(one, box, path))
    if not names:
        raise ApiError(400, "tool_choice.tools names no tool that can be called.", param="tool_choice.tools")
    return ToolChoice(Calling(choice["mode"]), tuple(names), parallel)


def chosen(choice: Body, box: Toolbox, path: str) -> str:
    name = flat(choice["name"], choice.get("namespace"))
    if name not in box.offered:
        raise ApiError(400, f"{path}.name {shown(name)} is none of the tools.", param=f"{path}.name")
    return name
