"""An `Ask`'s turns as one model's chat template wants its messages.

What a template cannot take is written otherwise, never left out: a system turn in the middle goes to the next user's,
ids take the form that it insists on. Which it wants is found by the probe. Knows no tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ..core import RequestError
from ..turns import Ask, Call, Picture, Role, Tool, Turn
from .quoting import Quoting
from .template import ChatTemplate
from .tokenizer import well_formed
from .tool_formats import Ids
from .tool_probe import Probe, as_parts

BREAK = "\n\n"  # between turns that become one
HERE = "\ufdd1"  # a noncharacter that marks where the last turn goes on


class TurnWriter:
    """Of one model."""

    def __init__(self, probe: Probe, template: ChatTemplate, quoting: Quoting) -> None:
        self._probe, self._template, self._quoting = probe, template, quoting

    def rendered(self, ask: Ask) -> str:
        """As the chat template writes it, marks round what people wrote included. It ends where the answer begins."""
        return self._rendered(ask, self._with_ids(self._fitted(ask.turns)))

    def closed(self, ask: Ask) -> str:
        """The same of turns that have all been said: nothing is begun after the last."""
        return self._written(ask, self._with_ids(self._fitted(ask.turns)), opens=False)

    def pictures(self, ask: Ask) -> list[Picture]:
        """In the order in which they are written."""
        return [part for turn in self._fitted(ask.turns) for part in turn.content if isinstance(part, Picture)]

    def _rendered(self, ask: Ask, turns: Sequence[Turn]) -> str:
        continues = goes_on(ask)
        text = self._written(ask, turns, opens=not continues, cut=continues)
        if not continues:
            return text
        before, found, _ = text.rpartition(HERE)
        if not found:
            raise RequestError(f"The chat template of {self._template.model} cannot go on with an assistant's turn.")
        return before

    def _written(self, ask: Ask, turns: Sequence[Turn], *, opens: bool, cut: bool = False) -> str:
        """`opens`: the answer is begun. `cut`: with a mark where the last turn ends."""
        names = {call.id: call.name for turn in turns for call in turn.calls}
        messages = [self._message(turn, names) for turn in turns]
        if cut:
            end_here(messages[-1])
        tools = self._quoting.within(tools_of(ask.tools))
        return self._template.render(messages, tools=tools, add_generation_prompt=opens, **ask.template)

    def _fitted(self, turns: Sequence[Turn]) -> list[Turn]:
        """Only such turns, in such an order, as the template takes."""
        fitted = joined(turns, Role.ASSISTANT)
        if any(turn.role is Role.SYSTEM for turn in fitted):
            fitted = self._systems(fitted)
        if any(a.role is b.role is Role.USER for a, b in pairwise(fitted)) and self._probe.alternates:
            fitted = joined(fitted, Role.USER)
        return fitted

    def _systems(self, turns: Sequence[Turn]) -> list[Turn]:
        first = next((at for at, turn in enumerate(turns) if turn.role is not Role.SYSTEM), len(turns))
        leading, rest = joined(turns[:first], Role.SYSTEM), list(turns[first:])
        if leading and not self._probe.system:
            rest, leading = [*leading, *rest], []
        elif not any(turn.role is Role.SYSTEM for turn in rest) or self._probe.inline_system:
            return [*leading, *rest]
        return [*leading, *to_users(rest)]

    def _with_ids(self, turns: Sequence[Turn]) -> list[Turn]:
        """The ids of calls in the form that the template insists on. What a client is told keeps its own."""
        if not any(turn.calls or turn.role is Role.TOOL for turn in turns):
            return list(turns)
        form, told, count = self._probe.ids, {}, 0
        changed = []
        for turn in turns:
            calls = []
            for call in turn.calls:
                told[call.id] = id_of(form, call, count)
                calls.append(replace(call, id=told[call.id]))
                count += 1
            answers = turn.answers if turn.answers is None else told.get(turn.answers, turn.answers)
            changed.append(replace(turn, calls=tuple(calls), answers=answers))
        return changed

    def _message(self, turn: Turn, names: Mapping[str, str]) -> dict[str, Any]:
        """`names`: of the tools by the ids of their calls."""
        told: dict[str, Any] = {"role": str(turn.role), "content": self._content(turn)}
        if turn.thoughts is not None:
            self._think(told, self._quoting.text(well_formed(turn.thoughts)))
        if turn.calls:
            told["tool_calls"] = [self._call(call) for call in turn.calls]
        name = turn.name
        if turn.role is Role.TOOL:
            name = name or names.get(turn.answers or "")
            told["tool_call_id"] = self._quoting.text(well_formed(turn.answers or ""))
        return told if name is None else told | {"name": self._quoting.text(well_formed(name))}

    def _content(self, turn: Turn) -> str | list[dict[str, Any]]:
        """A text, or parts where there are pictures among it, or where the template wants them."""
        own = turn.role is Role.ASSISTANT
        if not self._probe.parts and all(isinstance(part, str) for part in turn.content):
            return self._quoting.text(well_formed(turn.text), own=own)
        return [
            {"type": "image"}
            if isinstance(part, Picture)
            else {"type": "text", "text": self._quoting.text(well_formed(part), own=own)}
            for part in turn.content
        ]

    def _think(self, message: dict[str, Any], thoughts: str) -> None:
        """The thoughts under the name that the template reads; it decides which of them stay."""
        if self._probe.thoughts_field is None and self._probe.thought_parts:
            said = as_parts(message)["content"]
            message["content"] = [{"type": "thinking", "thinking": thoughts}, *said]
        else:
            message[self._probe.thoughts_field or "reasoning_content"] = thoughts

    def _call(self, call: Call) -> dict[str, Any]:
        given: Any = self._quoting.within(arguments_of(call))
        if self._probe.text_arguments:
            given = json.dumps(given, ensure_ascii=False)
        name, id = (self._quoting.text(well_formed(text)) for text in (call.name, call.id))
        return {"id": id, "type": "function", "function": {"name": name, "arguments": given}}


def arguments_of(call: Call) -> dict[str, Any]:
    """What a client hands back may be cut short, or no object at all: then it is told as the text that it is."""
    try:
        given = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        given = None
    return given if isinstance(given, dict) else {"input": call.arguments}


def end_here(message: dict[str, Any]) -> None:
    if isinstance(message["content"], str):
        message["content"] += HERE
    else:
        message["content"].append({"type": "text", "text": HERE})


def goes_on(ask: Ask) -> bool:
    """Whether the answer goes on with the last turn."""
    last = ask.turns[-1] if ask.turns else None
    if last is None or last.role is not Role.ASSISTANT:
        if ask.continues:
            raise RequestError("Only an assistant's turn can go on, and the last one is none.")
        return False
    if last.calls:
        raise RequestError("The last turn calls a tool: its result must follow in a turn of the role tool.")
    return ask.continues


def joined(turns: Sequence[Turn], role: Role) -> list[Turn]:
    """Neighbours of that role as one turn."""
    fitted: list[Turn] = []
    for turn in turns:
        if fitted and turn.role is role is fitted[-1].role:
            fitted[-1] = one_of(fitted[-1], turn)
        else:
            fitted.append(turn)
    return fitted


def one_of(first: Turn, second: Turn) -> Turn:
    thoughts = [one for one in (first.thoughts, second.thoughts) if one is not None]
    content = first.content + second.content
    if content and all(isinstance(part, str) for part in content):
        content = (BREAK.join(turn.text for turn in (first, second) if turn.text),)
    return replace(
        first, content=content, thoughts=BREAK.join(thoughts) if thoughts else None, calls=first.calls + second.calls
    )


def to_users(turns: Sequence[Turn]) -> list[Turn]:
    """System turns joined to the user's turn after them; what comes last is a user's turn itself."""
    fitted: list[Turn] = []
    waiting: list[Turn] = []
    for turn in turns:
        if turn.role is Role.SYSTEM:
            waiting.append(replace(turn, role=Role.USER, name=None))
        elif turn.role is Role.USER:
            fitted += joined([*waiting, turn], Role.USER)
            waiting = []
        else:
            fitted.append(turn)
    return fitted + joined(waiting, Role.USER)


def id_of(form: Ids, call: Call, count: int) -> str:
    if form is Ids.COUNTED:
        return f"functions.{call.name}:{count}"
    if form is Ids.NINE and not (len(call.id) == 9 and call.id.isascii() and call.id.isalnum()):
        return hashlib.sha256(call.id.encode("utf-8", "surrogatepass")).hexdigest()[:9]
    return call.id


def tools_of(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """As every template knows them."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": parameters_of(tool)},
        }
        for tool in tools
    ]


def parameters_of(tool: Tool) -> dict[str, Any]:
    """A custom tool's text travels as the property "input"."""
    if tool.custom:
        return {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    return dict(tool.parameters)


def turns_of(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Of messages with a role and a text, or a list of texts and pictures, as programs in Python write them."""
    return tuple(map(_turn, messages))


def _turn(message: Mapping[str, Any]) -> Turn:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RequestError("Each message must be an object with a role and content.")
    roles = {str(role): role for role in Role} | {"developer": Role.SYSTEM}
    role, content = roles.get(message["role"]), message.get("content")
    if role is None:
        raise RequestError(f"role must be one of {', '.join(roles)}, not {message['role']!r}.")
    parts = (content,) if isinstance(content, str) else tuple(content) if isinstance(content, list) else ()
    if not parts or not all(isinstance(part, str | Picture) for part in parts):
        raise RequestError("The content of a message must be a text, or a list of texts and pictures.")
    known = {"role", "content", "name", "reasoning_content", "tool_calls", "tool_call_id"}
    if more := sorted(set(map(str, message)) - known):
        raise RequestError(f"A message has {more[0]!r}, which is not understood here: use an Ask of turns.")
    calls = tuple(map(_call, message.get("tool_calls") or ()))
    thoughts, answers = message.get("reasoning_content"), message.get("tool_call_id")
    return Turn(role, parts, thoughts, calls, answers=answers, name=message.get("name"))


def _call(told: Any) -> Call:
    try:
        return Call(str(told["id"]), str(told["function"]["name"]), str(told["function"]["arguments"]))
    except (TypeError, KeyError, IndexError):
        raise RequestError("Each of tool_calls must have an id and a function with name and arguments.") from None
