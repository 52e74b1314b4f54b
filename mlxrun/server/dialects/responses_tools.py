"""The tools of a Responses request: their names as the model knows them, and as the client does.

A namespace's tools are flattened, `namespace__name`, and a call of one is told with both names again. Tools that
OpenAI hosts are left out and told: agents send them always and do well without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...core import Constraint, Shape
from ...turns import Calling, Tool, ToolChoice
from ..check import shown
from ..dialect import Body
from ..errors import ApiError
from ..left_out import is_hosted
from ..tools import checked, chosen, custom_tool

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
    told: tuple[Body, ...]  # as the request has them

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(offered.tool for offered in self.offered.values())


def flat(name: str, namespace: str | None) -> str:
    return f"{namespace}__{name}" if namespace else name


def toolbox_of(given: Sequence[tuple[str, Body]]) -> Toolbox:
    """Of the tools, which were checked, and where in the request each stands."""
    found = [each for path, tool in given for each in tools_in(tool, path)]
    tools = checked([offered.tool for _, offered in found], [f"{path}.name" for path, _ in found])
    offered = {tool.name: offered for tool, (_, offered) in zip(tools, found, strict=True)}
    return Toolbox(offered, tuple(tool for _, tool in given))


def tools_in(tool: Body, path: str) -> Iterator[tuple[str, OfferedTool]]:
    if tool["type"] != "namespace":
        yield path, OfferedTool(tool_of(tool, tool["name"]), tool["name"])
        return
    for index, inner in enumerate(tool["tools"]):
        named = flat(inner["name"], tool["name"])
        yield f"{path}.tools[{index}]", OfferedTool(tool_of(inner, named), inner["name"], tool["name"])


def tool_of(tool: Body, name: str) -> Tool:
    about = tool.get("description") or ""
    if tool["type"] == "custom":
        return custom_tool(name, about, input_of(tool.get("format") or {}))
    own = Tool(name, about, strict=bool(tool.get("strict")))
    return own if tool.get("parameters") is None else Tool(name, about, tool["parameters"], own.strict)


def input_of(form: Body) -> Constraint | None:
    return Constraint(SYNTAXES[form["syntax"]], form["definition"]) if form.get("type") == "grammar" else None


def refuse_hosted(choice: object) -> None:
    """A tool that nobody runs here cannot be called, so who insists on it must be told."""
    kind = choice.get("type") if isinstance(choice, dict) else None
    if isinstance(kind, str) and is_hosted(kind):
        message = f"tool_choice asks for {shown(kind)}, which only OpenAI's own servers run."
        raise ApiError(400, message, param="tool_choice")


def choice_of(body: Body, box: Toolbox) -> ToolChoice:
    parallel, told = body.get("parallel_tool_calls") is not False, body.get("tool_choice") or "auto"
    if isinstance(told, str):
        choice = ToolChoice(Calling(told), (), parallel)
    elif told["type"] == "allowed_tools":
        if not told["tools"]:
            raise ApiError(400, "tool_choice.tools names no tool that can be called.", param="tool_choice.tools")
        choice = ToolChoice(Calling(told["mode"]), tuple(map(name_in, told["tools"])), parallel)
    else:
        choice = ToolChoice(Calling.REQUIRED, (name_in(told),), parallel)
    return chosen(choice, box.tools)


def name_in(told: Body) -> str:
    return flat(told["name"], told.get("namespace"))
