"""The Responses dialect through a server: what is asked becomes a prompt, what is kept can be gone on from."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from mlxrun.core import Priority, Shape
from mlxrun.server.app import Server
from mlxrun.server.check import check
from mlxrun.server.dialects.responses import asked_of
from mlxrun.server.dialects.responses_fields import RESPONSE
from mlxrun.server.left_out import settle
from mlxrun.server.stored import StoredAnswers
from mlxrun.turns import Calling, Role

from .scripted import ScriptedEngine, ask, error_of, server

PATH = "/v1/responses"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
Json = dict[str, Any]


def respond(own: Server, given: Any = "Hi", **fields: Any) -> httpx.Response:
    return ask(own, PATH, {"input": given, **fields})


def prompt_of(engine: ScriptedEngine, index: int = -1) -> str:
    return bytes(engine.asked[index].tokens).decode()


def events_of(response: httpx.Response) -> list[Json]:
    """The events of a stream; its frame and the order of its numbers are checked."""
    assert response.status_code == 200, response.text
    *frames, rest = response.text.split("\n\n")
    assert rest == ""
    events = []
    for told in frames:
        if not told.startswith(":"):
            named, data = told.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert named == f"event: {event['type']}"
            events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def prompted(body: Json, stored: StoredAnswers | None = None) -> Any:
    """What a dialect makes of a body that came through the server."""
    settle(body, RESPONSE)
    check(body, RESPONSE)
    return asked_of(body, stored or StoredAnswers())


def test_a_text_is_answered_whole() -> None:
    own, engine = server(ScriptedEngine("Hello", cached=2))
    told = respond(own).json()
    assert (told["object"], told["status"], told["error"]) == ("response", "completed", None)
    (item,) = told["output"]
    assert item["type"] == "message"
    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert prompt_of(engine) == "user:Hi\n"
    assert told["usage"]["total_tokens"] == len("user:Hi\n") + len("Hello")
    assert told["usage"]["input_tokens_details"]["cached_tokens"] == 2


def test_a_stream_has_every_event_in_its_order() -> None:
    own, _ = server(ScriptedEngine("Hello"))
    events = events_of(respond(own, stream=True))
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert [kind for kind in kinds if kind != "output_text.delta"] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert "".join(event["delta"] for event in events if event["type"].endswith(".delta")) == "Hello"
    assert events[-1]["response"]["output"] == [events[-2]["item"]]
    assert events[2]["item"]["content"] == []
    assert events[3]["part"]["text"] == ""
    assert {event["response"]["id"] for event in events if "response" in event} == {events[0]["response"]["id"]}


def test_what_is_asked_reaches_the_engine() -> None:
    own, engine = server()
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    told = respond(
        own,
        [{"type": "message", "role": "developer", "content": "Be good."}, {"role": "user", "content": "Hi"}],
        instructions="Be brief.",
        max_output_tokens=3,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        text={"format": form},
    ).json()
    (request,) = engine.asked
    assert prompt_of(engine).startswith("system:Be brief.\n")
    assert "Be good." in prompt_of(engine)
    assert (request.max_tokens, request.sampling.temperature, request.sampling.top_p) == (3, 0.5, 0.9)
    assert (request.sampling.logprobs, request.constraint and request.constraint.shape) == (2, Shape.JSON_SCHEMA)
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert told["text"]["format"] == {**form, "description": None}
    assert [token["token"] for token in told["output"][0]["content"][0]["logprobs"]] == list("Hel")


def test_who_can_wait_says_so() -> None:
    own, engine = server()
    assert [respond(own, service_tier=tier).json()["service_tier"] for tier in ("flex", "auto")] == ["flex", "default"]
    assert [request.priority for request in engine.asked] == [Priority.BATCH, Priority.INTERACTIVE]


def test_unset_is_not_asked_for() -> None:
    own, engine = server()
    fields = dict.fromkeys(
        ("instructions", "tools", "reasoning", "text", "metadata", "previous_response_id", "include")
    )
    assert respond(own, max_output_tokens=-1, **fields).status_code == 200
    assert engine.asked[0].max_tokens is None


TOOLS = [
    WEATHER,
    {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}},
    {"type": "namespace", "name": "ns", "description": "", "tools": [{"type": "function", "name": "one"}]},
]


def test_tools_and_which_may_be_called() -> None:
    asked = prompted(
        {"input": "Hi", "tools": TOOLS, "tool_choice": {"type": "function", "name": "one", "namespace": "ns"}}
    )
    assert [tool.name for tool in asked.ask.tools] == ["weather", "patch", "ns__one"]
    assert [tool.custom for tool in asked.ask.tools] == [False, True, False]
    assert asked.ask.tools[1].input.shape is Shape.LARK
    assert (asked.ask.choice.calling, asked.ask.choice.names) == (Calling.REQUIRED, ("ns__one",))
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "patch"}]}
    choice = prompted({"input": "Hi", "tools": TOOLS, "tool_choice": allowed, "parallel_tool_calls": False}).ask.choice
    assert (choice.calling, choice.names, choice.parallel) == (Calling.AUTO, ("patch",), False)


def test_tools_that_come_as_an_item_are_tools() -> None:
    item = {"type": "additional_tools", "role": "developer", "tools": [WEATHER]}
    assert [tool.name for tool in prompted({"input": [item, {"role": "user", "content": "Hi"}]}).ask.tools] == [
        "weather"
    ]


def test_hosted_tools_are_left_out_and_told() -> None:
    own, _ = server()
    tools = [{"type": "web_search", "external_web_access": False}, {"type": "mcp", "server_label": "x"}]
    answer = respond(own, tools=tools)
    assert answer.json()["tools"] == []
    assert answer.headers["x-mlxrun-left-out"] == "tools: web_search, tools: mcp"
    refused = error_of(respond(own, tools=tools, tool_choice={"type": "web_search"}))
    assert refused["message"] == "tool_choice asks for 'web_search', which only OpenAI's own servers run."
    assert respond(own, tools=tools, tool_choice="required").status_code == 400


def test_what_is_not_known_is_left_out_and_told() -> None:
    own, _ = server()
    answer = respond(own, frobnicate=1, text={"verbosity": "medium", "colour": "red"})
    assert answer.headers["x-mlxrun-left-out"] == "frobnicate, text.colour"
    assert respond(own, text={"verbosity": "low"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{"role": "user", "content": "a"}, {"type": "web_search_call"}]}, "input[1].type"),
        ({"input": [{"type": "compaction_trigger"}]}, "input[0].type"),
        ({"input": [{"role": "critic", "content": "a"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments"),
        ({"input": [{"type": "item_reference", "id": "msg_nobody"}]}, "input[0].id"),
        ({"input": "a", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "a", "tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"input": "a", "tools": [WEATHER, WEATHER]}, "tools[1].name"),
        ({"input": "a", "tools": [{"type": "gadget"}]}, "tools[0].type"),
        ({"input": "a", "tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"input": "a", "tool_choice": "required"}, "tool_choice"),
        ({"input": "a", "background": True}, "background"),
        ({"input": "a", "conversation": "conv_1"}, "conversation"),
        ({"input": "a", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "a", "context_management": [{"type": "compaction"}]}, "context_management"),
        ({"input": "a", "reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"input": "a", "text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"input": "a", "text": {"format": {"type": "json_object"}}, "guided_regex": "a"}, "guided_regex"),
    ],
)
def test_what_cannot_be_served_is_named(body: Json, param: str) -> None:
    own, engine = server()
    answer = ask(own, PATH, body)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == param
    assert engine.asked == []


def test_an_answer_is_gone_on_from() -> None:
    own, engine = server(ScriptedEngine("Hello"))
    first = respond(own, "One", instructions="Only now.").json()
    second = respond(own, "Two", previous_response_id=first["id"]).json()
    third = respond(own, [{"role": "user", "content": "Three"}], previous_response_id=second["id"]).json()
    assert prompt_of(engine) == "user:One\nassistant:Hello\nuser:Two\nassistant:Hello\nuser:Three\n"
    assert third["previous_response_id"] == second["id"]
    assert ask(own, f"{PATH}/{third['id']}").json() == third


def test_a_call_that_is_kept_is_answered() -> None:
    stored = StoredAnswers()
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "weather", "arguments": '{"a":1}'}
    stored.keep(
        {"id": "resp_1", "output": [call]}, b'[{"id":"msg_1","type":"message","role":"user","content":"W"}]', ["msg_1"]
    )
    output = {"type": "function_call_output", "call_id": "c", "output": "Rain"}
    turns = prompted({"input": [output], "previous_response_id": "resp_1"}, stored).ask.turns
    assert [turn.role for turn in turns] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    assert (turns[1].calls[0].name, turns[2].answers, turns[2].text) == ("weather", "c", "Rain")
    referred = prompted({"input": [{"type": "item_reference", "id": "fc_1"}, output]}, stored)
    assert [turn.role for turn in referred.ask.turns] == [Role.ASSISTANT, Role.TOOL]
    assert referred.items[0] == {"status": "completed", **call}


def test_what_is_not_kept_is_not_gone_on_from() -> None:
    own, _ = server()
    unkept = respond(own, store=False).json()
    for name in (unkept["id"], "resp_nobody"):
        refused = respond(own, previous_response_id=name)
        assert refused.status_code == 400
        assert error_of(refused)["code"] == "previous_response_not_found"
        assert error_of(refused)["param"] == "previous_response_id"
        assert ask(own, f"{PATH}/{name}").status_code == 404


def test_a_kept_answer_is_told_listed_and_forgotten() -> None:
    own, _ = server()
    first = events_of(respond(own, "One", stream=True))[-1]["response"]
    second = respond(own, [{"role": "user", "content": "Two"}], previous_response_id=first["id"]).json()
    listed = ask(own, f"{PATH}/{second['id']}/input_items?order=asc").json()
    assert [item["role"] for item in listed["data"]] == ["user", "assistant", "user"]
    assert listed["data"][2]["content"] == [{"type": "input_text", "text": "Two"}]
    assert (listed["first_id"], listed["has_more"]) == (listed["data"][0]["id"], False)
    newest = ask(own, f"{PATH}/{second['id']}/input_items?limit=1").json()
    assert (newest["data"], newest["has_more"]) == (listed["data"][2:], True)
    after = ask(own, f"{PATH}/{second['id']}/input_items?after={newest['last_id']}").json()
    assert after["data"] == listed["data"][1::-1]
    assert ask(own, f"{PATH}/{first['id']}", method="DELETE").json()["deleted"] is True
    for method, path in (("GET", f"{PATH}/{first['id']}"), ("DELETE", f"{PATH}/{first['id']}")):
        assert error_of(ask(own, path, method=method))["param"] == "id"
    assert respond(own, previous_response_id=second["id"]).status_code == 400  # a part of it is gone


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=up", "after=nobody"])
def test_a_page_that_there_is_not(query: str) -> None:
    own, _ = server()
    kept = respond(own).json()
    assert error_of(ask(own, f"{PATH}/{kept['id']}/input_items?{query}"))["param"] == query.split("=")[0]


def test_a_prompt_is_counted_as_usage_counts_it() -> None:
    own, _ = server()
    body = {"input": "Hi", "instructions": "Be brief.", "unheard_of": 1}
    counted = ask(own, f"{PATH}/input_tokens", body)
    assert counted.headers["x-mlxrun-left-out"] == "unheard_of"
    assert counted.json() == {
        "object": "response.input_tokens",
        "input_tokens": ask(own, PATH, body).json()["usage"]["input_tokens"],
    }
    assert error_of(ask(own, f"{PATH}/input_tokens", {"input": 3}))["param"] == "input"


def test_what_this_server_never_does_is_told() -> None:
    own, _ = server()
    for path in (f"{PATH}/resp_1/cancel",):
        assert ask(own, path, {}).status_code == 400
        assert error_of(ask(own, path, {}))["code"] is None


def test_errors_in_the_words_that_agents_read() -> None:
    own, _ = server(ScriptedEngine(context=20))
    assert error_of(respond(own, "x" * 100, stream=True))["code"] == "context_length_exceeded"
    own, _ = server(max_concurrent=0)
    busy = respond(own)
    assert busy.status_code == 429
    assert error_of(busy)["code"] == "rate_limit_exceeded"
    assert error_of(busy)["message"].endswith("Please try again in 3s.")


@pytest.mark.parametrize("given", ["Hi", [{"role": "user", "content": [{"type": "input_text", "text": "\ud83d"}]}]])
def test_what_was_kept_is_gone_with_the_server(given: Any) -> None:
    kept = respond(server()[0], given).json()
    assert ask(server()[0], f"{PATH}/{kept['id']}").status_code == 404


def test_with_several_keys_nobody_sees_what_is_kept_for_another() -> None:
    own, _ = server(key="one two")
    mine, other = ({"authorization": f"Bearer {key}"} for key in ("one", "two"))
    kept = ask(own, PATH, {"input": "Secret"}, headers=mine).json()
    item = {"type": "item_reference", "id": kept["output"][0]["id"]}
    for headers, found in ((mine, True), (other, False)):
        assert (ask(own, f"{PATH}/{kept['id']}", headers=headers).status_code == 200) is found
        assert (ask(own, f"{PATH}/{kept['id']}/input_items", headers=headers).status_code == 200) is found
        for body in ({"input": "More", "previous_response_id": kept["id"]}, {"input": [item]}):
            assert (ask(own, PATH, body, headers=headers).status_code == 200) is found
            assert (ask(own, f"{PATH}/input_tokens", body, headers=headers).status_code == 200) is found
    assert ask(own, f"{PATH}/{kept['id']}", method="DELETE", headers=other).status_code == 404
    assert ask(own, f"{PATH}/{kept['id']}", method="DELETE", headers=mine).json()["id"] == kept["id"]
