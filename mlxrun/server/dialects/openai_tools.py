"""Tools in the words of OpenAI's chats: their fields, and the `Tool`s and the `ToolChoice` that they are."""

from __future__ import annotations

from ...core import Constraint, Shape
from ...turns import Calling, Tool, ToolChoice
from ..dialect import Body
from ..fields import either, fixed, flag, hosted_left_out, lists, one_of, tagged, text
from ..tools import MOST, checked, chosen, custom_tool

FUNCTION = fixed(
    "name",
    name=text("1 to 128 letters, digits and signs of _ . : -"),
    description=text(),
    parameters={"type": "object", "description": "A JSON schema of the arguments."},
    strict=flag("Words of the schema that cannot be held to are an error."),
)
GRAMMAR = fixed("syntax", "definition", syntax=one_of("lark", "regex"), definition=text(minLength=1))
INPUT_FORMAT = tagged(
    "type", fixed("type", type=one_of("text")), fixed("type", "grammar", type=one_of("grammar"), grammar=GRAMMAR)
)
CUSTOM = fixed("name", name=text(), description=text(), format=INPUT_FORMAT)
TOOL = tagged(
    "type",
    fixed("function", type=one_of("function"), function=FUNCTION),
    fixed("type", "custom", type=one_of("custom"), custom=CUSTOM),
    untagged="function",
)
NAMED = fixed("name", name=text())
NAMED_TOOL = tagged(
    "type",
    fixed("function", type=one_of("function"), function=NAMED),
    fixed("type", "custom", type=one_of("custom"), custom=NAMED),
    untagged="function",
)
ALLOWED = fixed(
    "type",
    "allowed_tools",
    type=one_of("allowed_tools"),
    allowed_tools=fixed("mode", "tools", mode=one_of("auto", "required"), tools=lists(NAMED_TOOL, minItems=1)),
)
CHOICE = either(
    one_of("none", "auto", "required"),
    tagged("type", *NAMED_TOOL["oneOf"], ALLOWED, untagged="function"),
    about="Whether tools may be called, must be, or which.",
)
TOOLS = {
    "tools": hosted_left_out(lists(TOOL, "What the model may call. Tools that only their maker runs are left out.")),
    "tool_choice": CHOICE,
    "parallel_tool_calls": flag("False: at most one call in an answer."),
}
TOOLS["tools"]["maxItems"] = MOST


def tools_of(body: Body) -> tuple[Tool, ...]:
    told = body.get("tools") or ()
    at = [f"tools[{index}].{tool.get('type') or 'function'}.name" for index, tool in enumerate(told)]
    return checked([_tool(tool) for tool in told], at)


def _tool(told: Body) -> Tool:
    if told.get("type") == "custom":
        custom = told["custom"]
        return custom_tool(custom["name"], custom.get("description") or "", _input(custom.get("format") or {}))
    function = told["function"]
    tool = Tool(function["name"], function.get("description") or "", strict=bool(function.get("strict")))
    if function.get("parameters") is None:
        return tool
    return Tool(tool.name, tool.description, function["parameters"], tool.strict)


def _input(form: Body) -> Constraint | None:
    if form.get("type") != "grammar":
        return None
    grammar = form["grammar"]
    return Constraint(Shape.LARK if grammar["syntax"] == "lark" else Shape.REGEX, grammar["definition"])


def choice_of(body: Body, tools: tuple[Tool, ...]) -> ToolChoice:
    parallel, told = body.get("parallel_tool_calls") is not False, body.get("tool_choice") or "auto"
    if isinstance(told, str):
        choice = ToolChoice(Calling(told), (), parallel)
    elif told.get("type") == "allowed_tools":
        allowed = told["allowed_tools"]
        choice = ToolChoice(Calling(allowed["mode"]), tuple(map(_name, allowed["tools"])), parallel)
    else:
        choice = ToolChoice(Calling.REQUIRED, (_name(told),), parallel)
    return chosen(choice, tools)


def _name(told: Body) -> str:
    name: str = told[told.get("type") or "function"]["name"]
    return name
