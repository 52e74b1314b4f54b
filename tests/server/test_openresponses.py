"""The scenarios of openresponses' compliance suite, by their names (github.com/openresponses/openresponses,
src/lib/compliance-tests.ts, specification of 2026-04-24), on a scripted engine. docs/conformance.md tells their state.

What its schema of a response requires is checked by another implementation of JSON Schema.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from .scripted import ScriptedEngine, ask, error_of, server
from .test_responses import PATH, events_of

Json = dict[str, Any]
TEMPLATE = (Path(__file__).parents[1] / "data" / "templates" / "Qwen2.5-Coder.jinja").read_text()
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"location": "San Francisco, CA"}}\n</tool_call>'
DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}


def nullable(kind: Any) -> Json:
    return {"anyOf": [kind if isinstance(kind, dict) else {"type": kind}, {"type": "null"}]}


def record(*required: str, **properties: Any) -> Json:
    return {"type": "object", "properties": properties, "required": [*required]}


USAGE = record(
    *("input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details"),
    input_tokens={"type": "integer"},
    output_tokens={"type": "integer"},
    total_tokens={"type": "integer"},
    input_tokens_details=record("cached_tokens", cached_tokens={"type": "integer"}),
    output_tokens_details=record("reasoning_tokens", reasoning_tokens={"type": "integer"}),
)
TEXT_PART = record("type", "text", "annotations", "logprobs", annotations={"type": "array"}, logprobs={"type": "array"})
ITEMS = [
    record("id", "status", "role", "content", type={"const": "message"}, content={"type": "array", "items": TEXT_PART}),
    record("id", "status", "call_id", "name", "arguments", type={"const": "function_call"}),
    record("id", "summary", type={"const": "reasoning"}, summary={"type": "array"}),
]
FIELDS: Json = {
    "id": {"type": "string"},
    "object": {"const": "response"},
    "created_at": {"type": "integer"},
    "completed_at": nullable("integer"),
    "status": {"type": "string"},
    "incomplete_details": nullable(record("reason", reason={"type": "string"})),
    "model": {"type": "string"},
    "previous_response_id": nullable("string"),
    "instructions": nullable("string"),
    "output": {"type": "array", "items": {"anyOf": ITEMS}},
    "error": nullable(record("code", "message")),
    "tools": {"type": "array", "items": record("type", "name", "description", "parameters", "strict")},
    "tool_choice": {"type": ["string", "object"]},
    "truncation": {"enum": ["auto", "disabled"]},
    "parallel_tool_calls": {"type": "boolean"},
    "text": record("format", format=record("type")),
    "top_p": {"type": "number"},
    "presence_penalty": {"type": "number"},
    "frequency_penalty": {"type": "number"},
    "top_logprobs": {"type": "integer"},
    "temperature": {"type": "number"},
    "reasoning": nullable(record("effort", "summary")),
    "user": nullable("string"),
    "usage": nullable(USAGE),
    "max_output_tokens": nullable("integer"),
    "max_tool_calls": nullable("integer"),
    "store": {"type": "boolean"},
    "background": {"type": "boolean"},
    "service_tier": {"type": "string"},
    "metadata": {"type": "object"},
    "safety_identifier": nullable("string"),
    "prompt_cache_key": nullable("string"),
}
COMPACTED = jsonschema_rs.validator_for(
    record(
        *("id", "object", "output", "created_at", "usage"),
        id={"type": "string"},
        object={"const": "response.compaction"},
        output={
            "type": "array",
            "items": {
                "anyOf": [
                    record("type", "id", "status", "role", "content", type={"const": "message"}),
                    record("type", "id", "encrypted_content", type={"const": "compaction"}),
                ]
            },
        },
        created_at={"type": "integer"},
        usage=USAGE,
    )
)
RESPONSE = jsonschema_rs.validator_for({"type": "object", "properties": FIELDS, "required": [*FIELDS]})
EVENTS = {
    "response.output_item.added": ("output_index", "item"),
    "response.output_item.done": ("output_index", "item"),
    "response.content_part.added": ("item_id", "output_index", "content_index", "part"),
    "response.content_part.done": ("item_id", "output_index", "content_index", "part"),
    "response.output_text.delta": ("item_id", "output_index", "content_index", "delta", "logprobs"),
    "response.output_text.done": ("item_id", "output_index", "content_index", "text", "logprobs"),
    "response.function_call_arguments.delta": ("item_id", "output_index", "delta"),
    "response.function_call_arguments.done": ("item_id", "output_index", "arguments"),
    **dict.fromkeys(("response.created", "response.in_progress", "response.completed"), ("response",)),
}


def said(*messages: tuple[str, Any], **more: Any) -> Json:
    items = [{"type": "message", "role": role, "content": content, **more} for role, content in messages]
    return {"model": "scripted", "input": items}


def answer(body: Json, text: str = "Hello") -> httpx.Response:
    return ask(server(ScriptedEngine(text, context=10_000), TEMPLATE)[0], PATH, body)


def whole(body: Json, text: str = "Hello") -> Json:
    told: Json = answer(body, text).json()
    RESPONSE.validate(told)
    assert told["status"] == "completed"
    assert told["output"]
    return told


def streamed(body: Json, text: str = "Hello") -> list[Json]:
    events = events_of(answer({**body, "stream": True}, text))
    for event in events:
        assert {*EVENTS[event["type"]]} <= event.keys()
        if "response" in event:
            RESPONSE.validate(event["response"])
    assert events[-1]["response"]["status"] == "completed"
    return events


def basic_response() -> None:
    whole(said(("user", "Say hello in exactly 3 words.")))


def assistant_phase() -> None:
    told = said(("assistant", "I should answer with the saved number."), phase="commentary")
    told["input"] += said(("assistant", "The number is four."), phase="final_answer")["input"]
    told["input"] += said(("user", "Repeat only the number."))["input"]
    whole(told)


def streaming_response() -> None:
    streamed(said(("user", "Count from 1 to 5.")))


def system_prompt() -> None:
    whole(said(("system", "You are a pirate. Always respond in pirate speak."), ("user", "Say hello.")))


def tool_calling() -> None:
    told = whole({**said(("user", "What's the weather like in San Francisco?")), "tools": [WEATHER]}, CALL)
    assert [item["type"] for item in told["output"]] == ["function_call"]


def tool_calling_streaming() -> None:
    events = streamed({**said(("user", "What's the weather like in San Francisco?")), "tools": [WEATHER]}, CALL)
    kinds = [event["type"] for event in events]
    for kind in ("function_call_arguments.delta", "function_call_arguments.done"):
        assert f"response.{kind}" in kinds
    for kind in ("added", "done"):
        items = [event["item"] for event in events if event["type"] == f"response.output_item.{kind}"]
        assert [item["type"] for item in items] == ["function_call"]


def multi_turn() -> None:
    hello = "Hello Alice! Nice to meet you. How can I help you today?"
    whole(said(("user", "My name is Alice."), ("assistant", hello), ("user", "What is my name?")))


def image_input() -> None:
    parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": PIXEL}]
    refused = answer(said(("user", parts)))
    assert refused.status_code == 400
    assert "picture" in error_of(refused)["message"]


def compact_response() -> None:
    own, _ = server(ScriptedEngine("They launch on Tuesday.", context=10_000), TEMPLATE)
    told = ask(own, f"{PATH}/compact", said(("user", "We agreed to launch on Tuesday."))).json()
    COMPACTED.validate(told)
    assert [item["type"] for item in told["output"]] == ["message", "compaction"]


def compact_missing_model() -> None:
    own, _ = server()
    body = {"input": said(("user", "Compact this conversation."))["input"]}
    assert ask(own, f"{PATH}/compact", body).status_code in (400, 422)


def response_output_phase_schema() -> None:
    """The suite's own fixture, which no server is asked for: that its schema knows `phase`."""
    item = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "phase": "commentary"}
    part = {"type": "output_text", "text": "I check.", "annotations": [], "logprobs": []}
    RESPONSE.validate({**whole(said(("user", "Hi"))), "output": [{**item, "content": [part]}]})


SCENARIOS = {
    "basic-response": (basic_response, "passes"),
    "assistant-phase": (assistant_phase, "passes"),
    "response-output-phase-schema": (response_output_phase_schema, "passes"),
    "streaming-response": (streaming_response, "passes"),
    "system-prompt": (system_prompt, "passes"),
    "tool-calling": (tool_calling, "passes"),
    "tool-calling-streaming": (tool_calling_streaming, "passes"),
    "multi-turn": (multi_turn, "passes"),
    "compact-missing-model": (compact_missing_model, "passes"),
    "image-input": (image_input, "refused"),
    "compact-response": (compact_response, "passes"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    scenario, state = SCENARIOS[name]
    scenario()
    assert f"| `{name}` | {state} |" in DOCUMENT.read_text(encoding="utf-8")


def test_the_schema_misses_what_is_missing() -> None:
    told = json.loads(json.dumps(whole(said(("user", "Hi")))))
    for key in FIELDS:
        assert not RESPONSE.is_valid({name: value for name, value in told.items() if name != key})
