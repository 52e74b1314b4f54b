"""Anthropic's Messages: its events in their order, and its words for errors."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from mlxrun.core import Finish, Usage
from mlxrun.parts import Arguments, CallBegun, CallEnded, Media, Piece, Said, Thought
from mlxrun.server.dialects.anthropic_ask import ask_of
from mlxrun.server.dialects.anthropic_events import MessageEncoder, MessageFraming
from mlxrun.server.errors import ApiError

from .scripted import ScriptedEngine, ask, server

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
USER = {"role": "user", "content": "Hi"}
USAGE = Usage(30, 20, 9, 0.5, 0.1)


def body_of(**fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "max_tokens": 100, "messages": [USER], **fields}


def prompt_of(engine: ScriptedEngine) -> str:
    return bytes(engine.asked[-1].tokens).decode()


def told(raw: bytes | str) -> list[dict[str, Any]]:
    """The events of a stream, each with the line that names it."""
    frames = (raw.decode() if isinstance(raw, bytes) else raw).split("\n\n")
    assert frames.pop() == ""
    events = []
    for frame in frames:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    assert set(body) == {"type", "error", "request_id"}
    assert (body["type"], set(body["error"])) == ("error", {"type", "message"})
    assert response.headers["request-id"] == body["request_id"]
    return response.status_code, body["error"]["type"], body["error"]["message"]


def test_a_whole_message() -> None:
    own, engine = server(ScriptedEngine(cached=2))
    response = ask(own, f"{PATH}?beta=true", body_of(system="Be brief."))
    message = response.json()
    assert message.pop("id").startswith("msg_")
    assert response.headers["request-id"].startswith("req_")
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": len("system:Be brief.\nuser:Hi\n") - 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 2,
            "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }
    assert prompt_of(engine) == "system:Be brief.\nuser:Hi\n"


def test_a_stream() -> None:
    own, _ = server(ScriptedEngine("<think>Hm.</think>Hello", cached=2))
    response = ask(own, PATH, body_of(stream=True, thinking={"type": "adaptive"}))
    assert response.headers["request-id"].startswith("req_")
    start, *between, delta, stop = told(response.text)
    assert start["message"]["content"] == []
    assert start["message"]["usage"]["input_tokens"] == len("user:Hi\n")
    assert [event["type"] for event in between if event["type"] != "content_block_delta"] == [
        "content_block_start",
        "content_block_stop",
    ] * 2
    assert between[0] == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    }
    said = [(event["index"], event["delta"]) for event in between if event["type"] == "content_block_delta"]
    assert "".join(delta["thinking"] for index, delta in said if delta["type"] == "thinking_delta") == "Hm."
    assert "".join(delta["text"] for index, delta in said if index == 1) == "Hello"
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert delta["usage"]["input_tokens"] == len("user:Hi\n") - 2
    assert delta["usage"]["output_tokens_details"]["thinking_tokens"] > 3
    assert stop == {"type": "message_stop"}


CALLED = (
    Thought("Hm."),
    Said("Look:"),
    CallBegun(0, "call_1", "read"),
    Arguments(0, '{"path":'),
    Arguments(0, '"a"}'),
    CallEnded(0),
    CallBegun(1, "call_2", "list"),
    Arguments(1, "{}"),
    CallEnded(1),
)


def encoder(hidden: bool = False, limit: int | None = None) -> MessageEncoder:
    return MessageEncoder(MessageFraming("m", "req_1", limit, hidden))


def test_calls_in_a_stream() -> None:
    own = encoder()
    raw = own.begin() + b"".join(own.piece(0, Piece((part,))) for part in CALLED)
    events = told(raw + own.end([Piece(finish=Finish.STOP, usage=USAGE)]))
    blocks = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert blocks[2] == {"type": "tool_use", "id": "call_1", "name": "read", "input": {}}
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1, 2, 3]
    arguments = [event["delta"]["partial_json"] for event in events if event.get("index") == 2 and "delta" in event]
    assert arguments == ['{"path":', '"a"}']
    signed = [event["delta"]["type"] for event in events if event.get("index") == 0 and "delta" in event]
    assert signed == ["thinking_delta", "signature_delta"]  # the signature last
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["input_tokens"] == 10


def test_calls_in_a_whole_message() -> None:
    message = encoder().whole([Piece(CALLED, finish=Finish.STOP, usage=USAGE)])
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block["input"] for block in message["content"][2:]] == [{"path": "a"}, {}]
    assert message["stop_reason"] == "tool_use"


def test_a_call_that_was_cut_is_none() -> None:
    message = encoder(limit=9).whole([Piece(CALLED[:4], finish=Finish.LENGTH, usage=USAGE)])
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert message["stop_reason"] == "max_tokens"
    own = encoder(limit=9)
    events = told(own.piece(0, Piece(CALLED[:4])) + own.end([Piece(finish=Finish.LENGTH, usage=USAGE)]))
    assert [event["type"] for event in events[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


def test_the_end_of_the_context_is_told_apart_from_max_tokens() -> None:
    message = encoder(limit=10).whole([Piece((Said("a"),), finish=Finish.LENGTH, usage=USAGE)])
    assert message["stop_reason"] == "model_context_window_exceeded"


def test_thoughts_that_are_not_shown_travel_in_their_signature() -> None:
    own = encoder(hidden=True)
    events = told(own.piece(0, Piece(CALLED)) + own.end([Piece(finish=Finish.STOP, usage=USAGE)]))
    (signed,) = [event["delta"] for event in events if event.get("index") == 0 and "delta" in event]
    (whole, *_) = encoder(hidden=True).whole([Piece(CALLED, finish=Finish.STOP, usage=USAGE)])["content"]
    assert whole == {"type": "thinking", "thinking": "", "signature": signed["signature"]}
    back = ask_of({"messages": [USER, {"role": "assistant", "content": [whole]}, USER]})
    assert back.turns[1].thoughts == "Hm."
    foreign = {**whole, "signature": "EqQBCgIYAhIM"}
    assert ask_of({"messages": [USER, {"role": "assistant", "content": [foreign]}, USER]}).turns[1].thoughts is None


def test_what_it_has_no_place_for() -> None:
    for told_by in (encoder().piece, lambda _, piece: encoder().whole([piece])):
        with pytest.raises(ApiError, match="image/png"):
            told_by(0, Piece((Media("image/png", b""),), finish=Finish.STOP, usage=USAGE))


def test_a_stream_that_breaks_off_says_so_in_an_event() -> None:
    (event,) = told(encoder().failed(ApiError(503, "The server is stopping.")))
    assert event["error"] == {"type": "overloaded_error", "message": "The server is stopping."}
    assert event["request_id"] == "req_1"


def test_stop_sequences() -> None:
    own, _ = server()
    message = ask(own, PATH, body_of(stop_sequences=["l"])).json()
    assert (message["content"][0]["text"], message["stop_reason"], message["stop_sequence"]) == (
        "He",
        "stop_sequence",
        "l",
    )
    events = told(ask(own, PATH, body_of(stop_sequences=["l"], stream=True)).text)
    assert events[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "l"}


def test_max_tokens_beyond_the_context_is_no_error() -> None:
    own, _ = server()
    assert ask(own, PATH, body_of(max_tokens=32000)).json()["stop_reason"] == "end_turn"
    assert ask(own, PATH, body_of(max_tokens=1)).json()["stop_reason"] == "max_tokens"


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for() -> None:
    own, _ = server()
    for stream in (False, True):
        long = body_of(messages=[{"role": "user", "content": "a" * 2000}], stream=stream)
        tokens = ask(own, COUNT, {"model": "scripted", "messages": long["messages"]}).json()["input_tokens"]
        status, kind, message = error_of(ask(own, PATH, long))
        assert (status, kind) == (400, "invalid_request_error")
        told = re.fullmatch(r"prompt is too long: (\d+) tokens > 999 maximum", message)
        assert told is not None
        assert 999 < int(told[1]) <= tokens  # it is not read to its end


def test_errors_in_its_words() -> None:
    own, _ = server(key="secret")
    assert error_of(ask(own, PATH, body_of()))[:2] == (401, "authentication_error")
    own, _ = server()
    assert error_of(ask(own, PATH, body_of(model="other")))[:2] == (404, "not_found_error")
    assert error_of(ask(own, PATH, b"{"))[:2] == (400, "invalid_request_error")
    assert error_of(ask(own, f"{PATH}/batches", {}))[:2] == (404, "not_found_error")
    assert error_of(ask(own, COUNT, {"messages": []}))[:2] == (400, "invalid_request_error")
    busy, _ = server(max_concurrent=0)
    refused = ask(busy, PATH, body_of())
    assert error_of(refused)[:2] == (429, "rate_limit_error")
    stopping, _ = server(ScriptedEngine(finish=Finish.CANCELLED))
    refused = ask(stopping, PATH, body_of())
    assert error_of(refused)[:2] == (529, "overloaded_error")
    assert int(refused.headers["retry-after"]) > 0


WEATHER = {"name": "weather", "input_schema": {"type": "object"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "sound"}]}]}, "messages[0].content[0].type must be one"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages[0].content[0].type is missing"),
        ({"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "a"}]}]},
            "messages[0].content[0] is a thinking block",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/"}}],
                    }
                ]
            },
            "messages[0].content[0].source.type must be 'base64'",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%"}}
                        ],
                    }
                ]
            },
            "messages[0].content[0].source.data holds no valid base64",
        ),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]},
                ]
            },
            "tool_result",
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 1000}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "below max_tokens"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name is 'weather', as another"),
        ({"tools": [{**WEATHER, "name": "a b"}]}, "tools[0].name must be"),
        ({"tools": [{"name": "weather"}]}, "tools[0].input_schema is missing"),
        ({"tools": [SEARCH]}, "'web_search' would run on Anthropic's machines"),
        (
            {"tools": [WEATHER, SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}},
            "tool_choice names the tool 'web_search'",
        ),
        ({"tool_choice": {"type": "any"}}, "there are none"),
        ({"container": "c"}, "container is not supported"),
        ({"mcp_servers": [{}]}, "mcp_servers is not supported"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management.edits[0].type"),
    ],
)
def test_what_cannot_be_served_is_named(fields: dict[str, Any], named: str) -> None:
    own, engine = server()
    status, kind, message = error_of(ask(own, PATH, body_of(**fields)))
    assert (status, kind) == (400, "invalid_request_error")
    assert named in message
    assert engine.asked == []


def test_counting_is_what_the_usage_says() -> None:
    own, _ = server(ScriptedEngine(cached=3))
    asked = {"model": "scripted", "system": "Be brief.", "messages": [USER], "thinking": {"type": "adaptive"}}
    counted = ask(own, f"{COUNT}?beta=true", asked).json()
    usage = ask(own, PATH, {**asked, "max_tokens": 5}).json()["usage"]
    assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}
