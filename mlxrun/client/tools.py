"""Python functions as tools: what a model is told of them, and the rounds in which it calls them.

The name is the function's, the description its docstring, the arguments its parameters by their types. A call whose
arguments do not fit, and a function that raises, are told to the model, which may try again. Knows no transport.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import types
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from ..core import RequestError
from ..turns import Tool
from .types import Message, Reply, ToolCall

Function = Callable[..., Any]
PLAIN: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
RAISED = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError),
    *(RuntimeError, TypeError, ValueError),
)  # of a person's own functions; what else they raise ends the answer
MOST_TEXT = 20_000  # characters of a result that go back to the model


def tool_of(function: Function) -> Tool:
    if not callable(function) or not getattr(function, "__name__", "").isidentifier():
        raise RequestError(f"A tool must be a function with a name, not {function!r}.")
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError) as error:
        raise RequestError(f"The types of {function.__name__} are not known: {error}.") from error
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise RequestError(f"{function.__name__} takes {name} by no name of its own, so no model can give it.")
        properties[name] = schema_of(hints.get(name, str), f"{name} of {function.__name__}")
        if parameter.default is parameter.empty:
            required.append(name)
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Tool(function.__name__, inspect.getdoc(function) or "", schema)


def schema_of(hint: Any, where: str) -> dict[str, Any]:
    """The JSON schema of a type that arguments may have."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    if hasattr(hint, "model_json_schema"):  # pydantic's
        return dict(hint.model_json_schema())
    if origin is Literal:
        return {"enum": list(inner)}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if origin in (list, Sequence) or hint is list:
        return {"type": "array", **({"items": schema_of(inner[0], where)} if inner else {})}
    if origin in (dict, Mapping) or hint is dict:
        return {"type": "object"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if one is type(None) else schema_of(one, where) for one in inner]}
    known = "str, int, float, bool, list, dict, Literal, an Enum or a pydantic class"
    raise RequestError(f"{where} has the type {hint!r}; a tool's parameter must be {known}.")


class Functions:
    def __init__(self, functions: Sequence[Function], told: Callable[[ToolCall], None] = lambda call: None) -> None:
        """`told` hears of each call that was run."""
        self._told = told
        self.tools = tuple(map(tool_of, functions))
        self._functions = {tool.name: function for tool, function in zip(self.tools, functions, strict=True)}
        if len(self._functions) < len(functions):
            raise RequestError("Two tools have the same name.")

    def run(self, call: ToolCall) -> ToolCall:
        function = self._functions.get(call.name)
        if function is None:
            return replace(call, result=f"There is no tool {call.name!r}.", failed=True)
        try:
            if inspect.iscoroutinefunction(function):
                raise TypeError(f"{call.name} is async; achat can await it, chat cannot")
            return replace(call, result=as_text(function(**given(function, call)))[:MOST_TEXT])
        except RAISED as error:  # the model is told
            return replace(call, result=f"{type(error).__name__}: {error}", failed=True)

    async def arun(self, call: ToolCall) -> ToolCall:
        """`run`, on a thread; what is async is awaited here."""
        function = self._functions.get(call.name)
        if not inspect.iscoroutinefunction(function):
            return await asyncio.to_thread(self.run, call)
        try:
            return replace(call, result=as_text(await function(**given(function, call)))[:MOST_TEXT])
        except RAISED as error:  # the model is told
            return replace(call, result=f"{type(error).__name__}: {error}", failed=True)

    def answered(
        self, ask: Callable[[Sequence[Message], bool], Reply], messages: Sequence[Message], rounds: int
    ) -> Reply:
        """`ask` is told whether tools may be called."""
        talk = CallRounds(messages, rounds)
        while (calls := talk.wanted(reply := ask(talk.said, talk.may_call))) is not None:
            talk.done(reply, [self._heard(self.run(call)) for call in calls])
        return replace(reply, ran=tuple(talk.ran))

    async def aanswered(
        self, ask: Callable[[Sequence[Message], bool], Awaitable[Reply]], messages: Sequence[Message], rounds: int
    ) -> Reply:
        talk = CallRounds(messages, rounds)
        while (calls := talk.wanted(reply := await ask(talk.said, talk.may_call))) is not None:
            talk.done(reply, [self._heard(await self.arun(call)) for call in calls])
        return replace(reply, ran=tuple(talk.ran))

    def _heard(self, call: ToolCall) -> ToolCall:
        self._told(call)
        return call


class CallRounds:
    """A conversation in rounds: asked, what is called is run, asked again, until an answer calls nothing.

    Once the rounds are used up, or the model asks the very same again or says nothing, it is asked the same question
    once more without any tools, the results beneath it as text.
    """

    def __init__(self, messages: Sequence[Message], rounds: int) -> None:
        if not isinstance(rounds, int) or rounds < 1:
            raise RequestError(f"rounds must be a whole number from 1 on, not {rounds!r}.")
        self._messages, self._left = messages, rounds
        self.said, self.ran, self.may_call = list(messages), list[ToolCall](), True

    def wanted(self, reply: Reply) -> Sequence[ToolCall] | None:
        """What is to be run before the next question, maybe nothing; None: that was the answer."""
        if not self.may_call or (not reply.calls and (reply.text.strip() or not self.ran)):
            return None
        known = [(call.name, call.arguments) for call in self.ran]
        new = [call for call in reply.calls if (call.name, call.arguments) not in known]
        return reply.calls if new else ()

    def done(self, reply: Reply, calls: Sequence[ToolCall]) -> None:
        self.ran += calls
        self._left -= 1
        if calls and self._left:
            self.said += [asked_for(reply), *map(result_of, calls)]
        else:
            self.said, self.may_call = [*self._messages, as_said(self.ran)], False


def given(function: Function, call: ToolCall) -> dict[str, Any]:
    """Its arguments, as the function wants them."""
    bound = inspect.signature(function).bind(**call.arguments)
    return {name: typed(function, name, value) for name, value in bound.arguments.items()}


def typed(function: Function, name: str, value: Any) -> Any:
    """JSON knows neither enums nor pydantic's classes."""
    hint: Any = typing.get_type_hints(function).get(name)
    if hasattr(hint, "model_validate"):
        return hint.model_validate(value)
    return hint(value) if isinstance(hint, type) and issubclass(hint, Enum) else value


def as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


def asked_for(reply: Reply) -> Message:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
        for call in reply.calls
    ]
    return {"role": "assistant", "content": reply.text, "tool_calls": calls}


def as_said(ran: Sequence[ToolCall]) -> Message:
    lines = [f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)}) gave: {call.result}" for call in ran]
    return {"role": "user", "content": "\n".join(["This is what was found out:", *lines, "Answer with that."])}


def result_of(call: ToolCall) -> Message:
    return {"role": "tool", "tool_call_id": call.id, "content": call.result or ""}
