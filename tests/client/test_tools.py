"""Python functions as tools: what a model is told of them, the rounds, and what goes wrong in them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from mlxrun.client.events import Reading
from mlxrun.client.shaped import instance, json_schema
from mlxrun.client.tools import Functions, tool_of
from mlxrun.client.types import ClientError, Message, Reply
from mlxrun.core import Finish, RequestError
from mlxrun.parts import Arguments, CallBegun, CallEnded, Said
from mlxrun.text.conversation import turns_of
from mlxrun.turns import Call, Role


class Unit(Enum):
    C = "celsius"
    F = "fahrenheit"


class Place(BaseModel):
    city: str


def weather(city: str, days: int = 1, unit: Unit = Unit.C) -> dict[str, Any]:
    """The weather in a city."""
    return {"city": city, "days": days, "unit": unit.name}


def where(place: Place, kinds: list[str], near: Literal["sea", "hill"] | None = None) -> str:
    return f"{place.city} {kinds} {near}"


def broken() -> None:
    raise KeyError("lost")


def calling(*calls: tuple[str, str]) -> Reply:
    parts: list[Any] = []
    for index, (name, arguments) in enumerate(calls):
        parts += [CallBegun(index, f"c{index}", name), Arguments(index, arguments), CallEnded(index)]
    return Reply("", parts=tuple(parts))


def answered(
    functions: Functions, *replies: Reply, rounds: int = 8
) -> tuple[Reply, list[tuple[int, bool]], list[Message]]:
    """The reply, and at each question how many messages there were and whether tools could be called."""
    coming, asked, last = list(replies), list[tuple[int, bool]](), list[Message]()

    def ask(said: Sequence[Message], may_call: bool) -> Reply:
        asked.append((len(said), may_call))
        last[:] = said
        return coming.pop(0)

    return functions.answered(ask, [{"role": "user", "content": "?"}], rounds), asked, last


def test_what_a_model_is_told() -> None:
    tool = tool_of(weather)
    assert (tool.name, tool.description) == ("weather", "The weather in a city.")
    assert tool.parameters["properties"] == {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    }
    assert tool.parameters["required"] == ["city"]
    told = tool_of(where).parameters["properties"]
    assert told["place"]["properties"]["city"]["type"] == "string"
    assert told["kinds"] == {"type": "array", "items": {"type": "string"}}
    assert told["near"] == {"anyOf": [{"enum": ["sea", "hill"]}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x, "must be a function with a name"),
        (5, "must be a function with a name"),
        (lambda: 0, "must be a function"),
    ],
)
def test_what_is_no_tool(function: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        tool_of(function)


def test_parameters_that_no_model_can_give() -> None:
    def many(*names: str) -> None: ...

    def odd(when: complex) -> None: ...

    with pytest.raises(RequestError, match="many takes names by no name"):
        tool_of(many)
    with pytest.raises(RequestError, match="when of odd has the type <class 'complex'>"):
        tool_of(odd)
    with pytest.raises(RequestError, match="the same name"):
        Functions([weather, weather])


def test_a_round_of_calls() -> None:
    first = calling(
        ("weather", '{"city": "Rome", "unit": "fahrenheit"}'), ("where", '{"place": {"city": "X"}, "kinds": []}')
    )
    reply, asked, said = answered(Functions([weather, where]), first, Reply("Sunny."))
    assert reply.text == "Sunny."
    assert [call.result for call in reply.ran] == ['{"city": "Rome", "days": 1, "unit": "F"}', "X [] None"]
    assert asked == [(1, True), (4, True)]
    user, assistant, *tools = turns_of(said)
    assert user.role is Role.USER
    arguments = json.dumps({"city": "Rome", "unit": "fahrenheit"})
    assert assistant.calls[0] == Call("c0", "weather", arguments)
    assert [(turn.role, turn.answers) for turn in tools] == [(Role.TOOL, "c0"), (Role.TOOL, "c1")]


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("broken", "{}", "KeyError: 'lost'"),
        ("weather", '{"town": "Rome"}', "TypeError: missing a required argument: 'city'"),
        ("weather", '{"city": "Rome", "unit": "kelvin"}', "ValueError: 'kelvin' is not a valid Unit"),
        ("fly", "{}", "There is no tool 'fly'."),
        ("weather", "no JSON", "TypeError"),
    ],
)
def test_what_goes_wrong_is_told_to_the_model(name: str, arguments: str, said: str) -> None:
    reply, _, messages = answered(Functions([weather, broken]), calling((name, arguments)), Reply("Sorry."))
    (call,) = reply.ran
    assert call.failed
    assert said in str(call.result)
    assert messages[-1]["content"] == call.result


def test_who_calls_for_ever_must_answer_at_last() -> None:
    rome, paris = (calling(("weather", json.dumps({"city": city}))) for city in ("Rome", "Paris"))
    reply, asked, said = answered(Functions([weather]), rome, rome, Reply("Enough."))
    assert (reply.text, len(reply.ran)) == ("Enough.", 1)
    assert [message["role"] for message in said] == ["user", "user"]
    assert 'weather({"city": "Rome"}) gave: {"city": "Rome"' in said[-1]["content"]
    assert [may for _, may in asked] == [True, True, False]
    reply, asked, _ = answered(Functions([weather]), rome, Reply(" "), Reply("Enough."))
    assert (reply.text, [may for _, may in asked]) == ("Enough.", [True, True, False])
    reply, asked, _ = answered(Functions([weather]), rome, paris, Reply("Enough."), rounds=2)
    assert (reply.text, len(reply.ran)) == ("Enough.", 2)
    assert [may for _, may in asked] == [True, True, False]
    with pytest.raises(RequestError, match="rounds must be"):
        answered(Functions([weather]), rounds=0)


def test_calls_as_a_server_streams_them() -> None:
    reading = Reading(0.0, 0)
    deltas = [
        {"content": "Let me see."},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]},
    ]
    events = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    for finish, whole in (("tool_calls", 2), ("length", 1)):
        end = {"choices": [{"delta": {}, "finish_reason": finish}]}
        pieces = [piece for event in (*events, end) for piece in reading.pieces(event)]
        reply = Reply.of(pieces)
        assert reply.parts[0] == Said("Let me see.")
        assert [(call.id, call.name, call.arguments) for call in reply.calls] == [("a", "f", {"x": 1}), ("b", "g", {})][
            :whole
        ]
        reading = Reading(0.0, 0)


def test_shapes() -> None:
    assert json_schema(Place)["properties"]["city"]["type"] == "string"
    assert instance(Place, Reply('{"city": "Rome"}')) == Place(city="Rome")
    assert instance({"type": "object"}, Reply('{"a": 1}')) == {"a": 1}
    with pytest.raises(RequestError, match="must be a pydantic class or a JSON schema"):
        json_schema(5)
    with pytest.raises(ClientError, match="does not fit the schema"):
        instance(Place, Reply('{"town": 1}'))
    with pytest.raises(ClientError, match="cut off before it was whole"):
        instance(Place, Reply('{"ci', finish=Finish.LENGTH))


@pytest.mark.parametrize("calls", [[{}], [5], [{"id": "a", "function": {}}]])
def test_calls_that_are_none(calls: Any) -> None:
    with pytest.raises(RequestError, match="Each of tool_calls must have"):
        turns_of([{"role": "assistant", "content": "", "tool_calls": calls}])


def test_for_asyncio_functions_run_on_threads_and_async_ones_are_awaited() -> None:
    where: list[str] = []

    def plain(city: str) -> str:
        where.append(threading.current_thread().name)
        return city.upper()

    async def later(place: Place) -> str:
        await asyncio.sleep(0)
        where.append(threading.current_thread().name)
        return place.city

    async def fails() -> None:
        raise KeyError("lost")

    coming = [
        calling(("plain", '{"city": "Rome"}'), ("later", '{"place": {"city": "Bern"}}'), ("fails", "{}")),
        Reply("All known."),
    ]
    asked: list[Sequence[Message]] = []

    async def ask(said: Sequence[Message], may_call: bool) -> Reply:
        asked.append(list(said))
        return coming.pop(0)

    functions = Functions([plain, later, fails])
    reply = asyncio.run(functions.aanswered(ask, [{"role": "user", "content": "Hi"}], 8))
    assert [call.result for call in reply.ran] == ["ROME", "Bern", "KeyError: 'lost'"]
    assert where[0] != where[1] == threading.current_thread().name
    assert [message["role"] for message in asked[1]] == ["user", "assistant", "tool", "tool", "tool"]
    told, _, _ = answered(Functions([later]), calling(("later", '{"place": {"city": "Bern"}}')), Reply("No."))
    assert told.ran[0].result == "TypeError: later is async; achat can await it, chat cannot"
