"""The Responses dialect: items in, items and events out, in the words that OpenAI's own client knows."""

from __future__ import annotations

import json
from typing import Any

import httpx

from .scripted import ScriptedEngine, ask, server

PATH = "/v1/responses"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
Json = dict[str, Any]


def respond(own: Any, given: Any = "Hi", **fields: Any) -> httpx.Response:
    return ask(own, PATH, {"input": given, **fields})


def events_of(response: httpx.Response) -> list[Json]:
    """The events of a stream; its frame and the order of its numbers are checked."""
    assert response.status_code == 200, response.text
    *frames, rest = response.text.split("\n\n")
    assert rest == ""
    events = []
    for told in frames:
        if told.startswith(":"):
            continue
        named, data = told.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert named == f"event: {event['type']}"
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def test_a_text_is_answered_whole() -> None:
    own, engine = server(ScriptedEngine("Hello"))
    told = respond(own).json()
    assert told["object"] == "response"
    assert told["status"] == "completed"
    (item,) = told["output"]
    assert item["type"] == "message"
    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert bytes(engine.asked[0].tokens).decode() == "user:Hi\n"
    assert told["usage"]["total_tokens"] == len("user:Hi\n") + len("Hello")


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
