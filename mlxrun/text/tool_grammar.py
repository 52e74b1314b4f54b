"""What an answer may be where tools may be called: a grammar of the tools and of the format's entry.

Calls are held to their tools' schemas once they have begun; around them text is free as far as the choice allows.
What cannot be held to is left out, and told (`left_out`); a strict tool refuses it. Knows no template and no engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core import Constraint, RequestError, Shape
from ..turns import Calling, Tool, ToolChoice
from .conversation import parameters_of
from .lark import ANY, LarkText, Literal, MarkerTokens, quoted, tokens
from .lark_in_json import NotUnderstood, inside_json
from .tool_formats import BareArgs, CallPlace, Ids, JsonArgs, JsonHead, RecipientHead, TaggedArgs, TextHead, ToolFormat
from .tool_grammar_args import arguments, unheld
from .tool_grammar_harmony import messages
from .tool_schema import HeldSchema

ID = {Ids.FREE: "[A-Za-z0-9_-]{1,40}", Ids.NINE: "[A-Za-z0-9]{9}", Ids.COUNTED: "functions[.]{name}:[0-9]{1,4}"}


@dataclass(frozen=True, slots=True)
class ToolWords:
    """What a model's answers are made of, beside their text."""

    markers: MarkerTokens
    form: ToolFormat
    other: tuple[int, ...] = ()  # control tokens that free text may hold: of thoughts, of a reader's own


def left_out(tools: Iterable[Tool], form: ToolFormat | None) -> tuple[str, ...]:
    """The words of the tools' schemas that calls in this format are not held to, each with where it stands."""
    told: list[str] = []
    for tool in tools:
        schema = held(tool)
        found = schema.left_out + ([] if form is None else unheld(form.args, schema.schema, schema.where))
        if found and tool.strict:
            raise RequestError(f"{found[0]} cannot be held to: leave it out, or make the tool not strict.")
        told += found
        if tool.input is not None and not holds_input(tool.input, form):
            told.append(f"tools.{tool.name}.format")
    return tuple(told)


def holds_input(input: Constraint, form: ToolFormat | None) -> bool:
    """Whether a custom tool's text is held to what it must be."""
    if input.shape is Shape.REGEX or (form is not None and isinstance(form.args, TaggedArgs)):
        return True
    json_like = form is not None and (isinstance(form.head, JsonHead) or isinstance(form.args, JsonArgs))
    return json_like and escaped(input) is not None


def escaped(input: Constraint) -> str | None:
    """Its grammar inside a JSON string; None: that cannot be said."""
    try:
        return inside_json(input.text) if input.shape is Shape.LARK else None
    except NotUnderstood:
        return None


def json_of(lark: LarkText, tool: Tool) -> str:
    """The arguments of a tool as a JSON object."""
    inside = None if tool.input is None else escaped(tool.input)
    if inside is None:
        return lark.json(held(tool).schema)
    return lark.rule(lark.joined([Literal('{"input": "'), lark.nested(inside), Literal('"}')]), "input")


def held(tool: Tool) -> HeldSchema:
    found = HeldSchema(parameters_of(tool), f"tools.{tool.name}.parameters")
    if tool.input is not None and tool.input.shape is Shape.REGEX:
        found.schema["properties"]["input"]["pattern"] = f"^(?:{tool.input.text})$"
    return found


def texts_of(form: ToolFormat) -> list[str]:
    """All that an entry says calls are written with."""
    head = form.head.text if isinstance(form.head, TextHead) else ""
    args = [form.args.open, form.args.close] if isinstance(form.args, TaggedArgs) else []
    quote = [form.args.quote] if isinstance(form.args, BareArgs) else []
    texts = [*form.call, *(form.section or ()), head, form.tail, form.between, *args, *quote, *form.also]
    return [text for text in texts if text]


def openers(form: ToolFormat) -> list[str]:
    """What a call may begin with, but for white space round it."""
    found = ((form.section or form.call)[0], form.call[0], *form.also)
    return [text.strip() for text in found if text.strip()]


def grammar(
    words: ToolWords, tools: Sequence[Tool], choice: ToolChoice, shape: Constraint | None = None
) -> Constraint | None:
    """None: nothing is held. `shape`: what the answer must be where it is no call."""
    lark = LarkText(words.markers)
    if isinstance(words.form.head, RecipientHead):
        told = None if shape is None else shaped(lark, shape)
        schemas = [(tool, json_of(lark, tool)) for tool in tools]
        return Constraint(Shape.LARK, lark.text(messages(lark, words.form.head, schemas, choice, told)))
    writer = CallWriter(lark, words.form, tools, choice.parallel)
    if choice.calling is Calling.REQUIRED:
        start = writer.calls()
    elif shape is not None:
        start = lark.one_of([writer.calls(), shaped(lark, shape)])
    elif choice.calling is Calling.NONE:
        start = writer.free(words.other)
    elif words.form.place is CallPlace.START:
        start = lark.one_of([writer.calls(), writer.free(words.other)])
    else:
        start = writer.among(words.other)
    return Constraint(Shape.LARK, lark.text(start))


def shaped(lark: LarkText, shape: Constraint) -> str:
    match shape.shape:
        case Shape.JSON_SCHEMA:
            return lark.json(json.loads(shape.text))
        case Shape.REGEX:
            return lark.regex(shape.text)
        case Shape.CHOICE:
            return lark.one_of([quoted(one) for one in json.loads(shape.text)])
    return lark.nested(shape.text)


class CallWriter:
    """The rules for calls of these tools in one format."""

    def __init__(self, lark: LarkText, form: ToolFormat, tools: Sequence[Tool], parallel: bool) -> None:
        self._lark, self._form, self._tools = lark, form, tools
        self._several = parallel and not form.one_per_turn

    def calls(self) -> str:
        """One or more, and nothing else. A model that puts a line's end between calls may write one behind the last:
        else it would have to call again."""
        opener, closer = self._form.section or ("", "")
        calls = [*self._several_after(opener + self._form.call[0]), Literal(closer)]
        space = self._form.between
        if closer or not space or not space.isspace():
            return self._lark.joined(calls)
        return self._lark.joined([*calls, f"({self._lark.literal(space)})?"])

    def among(self, other: Sequence[int]) -> str:
        """Free text with calls in it: each is held from its opener on."""
        lark, form = self._lark, self._form
        trigger = self._trigger
        if form.section is None:
            calls: list[str | Literal] = [self._one(form.call[0], trigger)]
        else:
            calls = [*self._several_after(form.section[0] + form.call[0], trigger), Literal(form.section[1])]
        call = lark.joined([lark.until(trigger, hint="opener"), *calls])
        text = self._free_text(trigger)
        quiet = [lark.joined([text, tokens(other)])] if other else []
        if not self._several:
            before = f"({quiet[0]})* " if quiet else ""
            return f"{before}({lark.rule(call, 'call')} | {text})"
        return f"({' | '.join([lark.rule(call, 'call'), *quiet])})* {text}"

    def free(self, other: Sequence[int]) -> str:
        """Text without calls."""
        text = self._free_text(self._trigger)
        return f"({text} {tokens(other)})* {text}" if other else text

    @property
    def _trigger(self) -> str:
        """What a call is known by as it begins."""
        opener = (self._form.section or self._form.call)[0].rstrip()
        return opener or self._head_text()

    def _several_after(self, opener: str, known: str = "") -> list[str | Literal]:
        """One call after this text, and more where there may be several. `known`: the part that has come already."""
        first = self._one(opener, known)
        if not self._several:
            return [first]
        return [first, f"({self._one(self._form.between + self._form.call[0])})*"]

    def _one(self, before: str, known: str = "") -> str:
        lark, form = self._lark, self._form
        bodies = [lark.joined(self._body(tool, before, known)) for tool in self._tools]
        body = lark.one_of([lark.rule(one, "body") for one in bodies], "called")
        return lark.rule(lark.joined([body, Literal(form.tail + (form.call[1] or ""))]), "one")

    def _body(self, tool: Tool, before: str, known: str) -> list[str | Literal]:
        form = self._form
        assert not isinstance(form.head, RecipientHead)
        if isinstance(form.head, JsonHead):
            return self._object(form.head, tool, before.removeprefix(known))
        first, *pieces = re.split(r"(\{id\}|\{n\})", form.head.text.replace("{name}", tool.name))
        told: list[str | Literal] = [Literal((before + first).removeprefix(known))]
        for piece in pieces:
            told.append({"{id}": self._id(tool), "{n}": "/[0-9]{1,4}/"}.get(piece) or Literal(piece))
        given = None
        if isinstance(form.args, JsonArgs):
            return [*told, json_of(self._lark, tool)]
        if tool.input is not None and isinstance(form.args, TaggedArgs):
            given = shaped(self._lark, tool.input)
        return [*told, arguments(self._lark, form.args, held(tool).schema, given)]

    def _object(self, head: JsonHead, tool: Tool, before: str) -> list[str | Literal]:
        lark, name = self._lark, json.dumps(tool.name, ensure_ascii=False)
        given = json_of(lark, tool)
        if head.name_is_key:
            return [Literal(before + f"{{{name}: "), given, Literal("}")]
        told = f'"{head.name}": {name}, "{head.args}": '
        if head.id is None:
            return [Literal(before + "{" + told), given, Literal("}")]
        id: list[str | Literal] = [Literal(f'"{head.id}": "'), self._id(tool), Literal('"')]
        if head.id_first:
            return [Literal(before + "{"), *id, Literal(", " + told), given, Literal("}")]
        return [Literal(before + "{" + told), given, Literal(", "), *id, Literal("}")]

    def _id(self, tool: Tool) -> str:
        return "/" + ID[self._form.ids].replace("{name}", slashed(re.escape(tool.name))) + "/"

    def _free_text(self, trigger: str) -> str:
        """Which a call cannot begin in."""
        lark, form = self._lark, self._form
        if form.place is CallPlace.START:
            opening = re.escape((form.section or ("", ""))[0].strip() + form.call[0].strip() + self._head_text())
            names = "|".join(re.escape(tool.name) for tool in self._tools)
            return lark.rule(rf"/{ANY}/ & ~/\s*{slashed(opening)}({slashed(names)}){ANY}/", "free", terminal=True)
        first = lark.markers.split(trigger)[:1]
        if not first or isinstance(first[0], int):
            return lark.rule(f"/{ANY}/", "free", terminal=True)
        return lark.rule(f"/{ANY}/ & ~/{ANY}{slashed(re.escape(first[0]))}{ANY}/", "free", terminal=True)

    def _head_text(self) -> str:
        match self._form.head:
            case JsonHead(name):
                return f'{{"{name}": "'
            case RecipientHead():
                return ""
        return self._form.head.text.partition("{name}")[0]


def slashed(pattern: str) -> str:
    return pattern.replace("/", r"\/")
