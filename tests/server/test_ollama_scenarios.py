"""Scenarios of Ollama's own tests, by the names that they have there: of its handlers (server/routes_generate_test.go)
and of its Anthropic dialect (middleware/anthropic_test.go, anthropic/anthropic_test.go), at commit fb30760. Written
anew for our scripted engine; docs/conformance.md tells their state.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxrun.core import Finish
from mlxrun.parts import Piece, Said, Thought
from mlxrun.server.dialects.anthropic_ask import ask_of
from mlxrun.turns import Role, Thinking

from .scripted import ScriptedEngine, ask, server
from .test_anthropic import CALLED, USAGE, encoder, error_of, told

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"location": "Seattle, WA", "unit": "celsius"}}\n</tool_call>'
WEATHER = {"name": "get_weather", "description": "Get weather", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": WEATHER}
CHAT, TEXT, MESSAGES = "/api/chat", "/api/generate", "/v1/messages"
USER = {"role": "user", "content": "Hello!"}


def asked(
    path: str, engine: ScriptedEngine | None = None, template: str = PLAIN, **fields: Any
) -> tuple[int, Any, str]:
    """Status, body (of a stream its lines) and prompt."""
    own, engine = server(engine or ScriptedEngine("Hi!", context=5000), template)
    response = ask(own, path, {"model": "scripted", "stream": False, **fields})
    body = response.json() if fields.get("stream") is not True else list(map(json.loads, response.text.splitlines()))
    return response.status_code, body, bytes(engine.asked[-1].tokens).decode() if engine.asked else ""


def refused(path: str, status: int, words: str, **fields: Any) -> Callable[[], None]:
    def test() -> None:
        found, body, _ = asked(path, **fields)
        assert (found, set(body)) == (status, {"error"})
        assert words in body["error"]

    return test


def prompted(path: str, wanted: str, /, **fields: Any) -> Callable[[], None]:
    def test() -> None:
        status, body, found = asked(path, **fields)
        assert (status, found) == (200, wanted)
        assert (body.get("response") or body["message"]["content"]) == "Hi!"
        assert (body["done"], body["done_reason"]) == (True, "stop")
        assert body["prompt_eval_count"] > 0
        assert body["total_duration"] > 0

    return test


def missing_body(path: str) -> Callable[[], None]:
    def test() -> None:
        response = ask(server()[0], path, b"", method="POST")
        assert (response.status_code, set(response.json())) == (400, {"error"})

    return test


def loads(path: str) -> Callable[[], None]:
    def test() -> None:
        status, body, prompt = asked(path)
        assert (status, body["model"], body["done"], body["done_reason"]) == (200, "scripted", True, "load")
        assert prompt == ""

    return test


def unloads() -> None:
    status, body, _ = asked(TEXT, prompt="", keep_alive=0)
    assert (status, body["done_reason"], body["response"]) == (200, "unload", "")


def think_false() -> None:
    assert asked(CHAT, messages=[USER], think=False)[0] == 200


def calls(stream: bool) -> Callable[[], None]:
    def test() -> None:
        own, _ = server(ScriptedEngine(CALL, context=5000))
        body = {"model": "scripted", "messages": [USER], "tools": [TOOL], "stream": stream}
        lines = [json.loads(line) for line in ask(own, CHAT, body).text.splitlines()]
        (call,) = [call for line in lines for call in line["message"].get("tool_calls", ())]
        assert call["function"]["name"] == "get_weather"
        assert call["function"]["arguments"] == {"location": "Seattle, WA", "unit": "celsius"}
        assert (call["id"] != "", lines[-1]["done_reason"]) == (True, "stop")

    return test


def calls_with_logprobs() -> None:
    own, _ = server(ScriptedEngine(CALL, context=5000))
    body = {"model": "scripted", "messages": [USER], "tools": [TOOL], "logprobs": True}
    lines = [json.loads(line) for line in ask(own, CHAT, body).text.splitlines()]
    assert "".join(token["token"] for line in lines for token in line.get("logprobs", ())) == CALL


def breaks(path: str, stream: bool) -> Callable[[], None]:
    def test() -> None:
        engine = ScriptedEngine("", finish=Finish.FAILED, reason="It broke.")
        own, _ = server(engine, PLAIN)
        fields = {"messages": [USER]} if path == CHAT else {"prompt": "Hello!"}
        response = ask(own, path, {"model": "scripted", "stream": stream, **fields})
        assert (response.status_code, response.json()) == (500, {"error": "It broke"})

    return test


def logprob_bytes(path: str) -> Callable[[], None]:
    def test() -> None:
        fields = {"messages": [USER]} if path == CHAT else {"prompt": "Hello!"}
        _, body, _ = asked(path, logprobs=True, top_logprobs=1, **fields)
        first = body["logprobs"][0]
        assert (first["token"], first["bytes"], first["top_logprobs"][0]["bytes"]) == ("H", [72], [72])

    return test


def ends_in_think(stream: bool) -> Callable[[], None]:
    def test() -> None:
        engine = ScriptedEngine("Hm.</think>Yes", context=5000)
        _, body, _ = asked(CHAT, engine, PLAIN + "<think>", messages=[USER], think=True, stream=stream)
        lines = body if stream else [body]
        assert "".join(line["message"].get("thinking", "") for line in lines) == "Hm."
        assert "".join(line["message"]["content"] for line in lines) == "Yes"

    return test


def message(**fields: Any) -> tuple[int, Any, str]:
    fields = {"max_tokens": 100, "messages": [USER], **fields}
    return asked(MESSAGES, **fields)


def anthropic_basic() -> None:
    status, body, prompt = message()
    assert (status, prompt, body["content"]) == (200, "user: Hello!\n", [{"type": "text", "text": "Hi!"}])


def anthropic_system() -> None:
    assert message(system="You are a helpful assistant.")[2].startswith("system: You are a helpful assistant.\n")


def anthropic_options() -> None:
    own, engine = server()
    fields = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "stop_sequences": ["\n", "END"]}
    ask(own, MESSAGES, {"model": "scripted", "max_tokens": 2048, "messages": [USER], **fields})
    sampling = engine.asked[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, engine.asked[-1].max_tokens) == (0.7, 0.9, 40, 2048)


def anthropic_streaming() -> None:
    own, _ = server()
    response = ask(own, MESSAGES, {"model": "scripted", "max_tokens": 100, "messages": [USER], "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"].startswith("no-")
    assert told(response.text)[-1] == {"type": "message_stop"}


def anthropic_tools() -> None:
    (tool,) = ask_of({"messages": [USER], "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}]}).tools
    assert tool.name == "get_weather"


def anthropic_result() -> None:
    use = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"location": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}
    text = {"type": "text", "text": "And now?"}
    turns = ask_of(
        {"messages": [USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result, text]}]}
    ).turns
    assert [turn.role for turn in turns] == [Role.USER, Role.ASSISTANT, Role.TOOL, Role.USER]
    assert (turns[2].answers, turns[2].text, turns[3].text) == ("call_1", "sunny", "And now?")


def anthropic_refused(words: str, **fields: Any) -> Callable[[], None]:
    def test() -> None:
        own, _ = server()
        body = {"model": "scripted", "max_tokens": 100, "messages": [USER], **fields}
        status, kind, message = error_of(
            ask(own, MESSAGES, {name: value for name, value in body.items() if value is not None})
        )
        assert (status, kind) == (400, "invalid_request_error")
        assert words in message

    return test


def anthropic_bad_json() -> None:
    own, _ = server()
    assert error_of(ask(own, MESSAGES, b"{invalid"))[:2] == (400, "invalid_request_error")


def anthropic_no_model() -> None:
    own, _ = server()
    assert error_of(ask(own, MESSAGES, {"model": "other", "max_tokens": 1, "messages": [USER]}))[:2] == (
        404,
        "not_found_error",
    )


def anthropic_effort() -> None:
    body = {"messages": [USER], "output_config": {"effort": "high"}}
    assert ask_of(body).thinking == Thinking(effort="high")
    assert ask_of({**body, "thinking": {"type": "adaptive"}}).thinking == Thinking(effort="high")
    assert ask_of({**body, "thinking": {"type": "disabled"}}).thinking == Thinking(on=False)


def anthropic_text_before_thinking() -> None:
    own = encoder()
    raw = b"".join(own.piece(0, Piece((part,))) for part in (Said("---\n"), Thought("Let me."), Said("The answer.")))
    events = told(raw + own.end([Piece(finish=Finish.STOP, usage=USAGE)]))
    kinds = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert kinds == ["text", "thinking", "text"]


def anthropic_thinking_then_call() -> None:
    own = encoder()
    events = told(
        own.piece(0, Piece((Thought("Hm."), *CALLED[2:6]))) + own.end([Piece(finish=Finish.STOP, usage=USAGE)])
    )
    assert [event["content_block"]["type"] for event in events if "content_block" in event] == ["thinking", "tool_use"]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


MAGIC = [
    USER,
    {"role": "assistant", "content": "I can help you with that."},
    {"role": "system", "content": "You can perform magic tricks."},
    {"role": "user", "content": "Help me write tests."},
]
MAGIC_PROMPT = (
    "user: Hello!\nassistant: I can help you with that.\nsystem: You can perform magic tricks.\n"
    "user: Help me write tests.\n"
)
SCENARIOS: dict[str, Callable[[], None]] = {
    "TestGenerateChat/missing body": missing_body(CHAT),
    "TestGenerateChat/missing thinking capability": refused(
        CHAT, 400, '"scripted" does not support thinking', messages=[USER], think=True
    ),
    "TestGenerateChat/model can't think but think set false": think_false,
    "TestGenerateChat/missing model": refused(CHAT, 404, "model 'other' not found", model="other"),
    "TestGenerateChat/load model": loads(CHAT),
    "TestGenerateChat/messages": prompted(CHAT, "user: Hello!\n", messages=[USER]),
    "TestGenerateChat/messages with system": prompted(
        CHAT, "system: Be brief.\nuser: Hello!\n", messages=[{"role": "system", "content": "Be brief."}, USER]
    ),
    "TestGenerateChat/messages with interleaved system": prompted(CHAT, MAGIC_PROMPT, messages=MAGIC),
    "TestGenerateChat/messages with tools (non-streaming)": calls(False),
    "TestGenerateChat/messages with tools (streaming)": calls(True),
    "TestGenerateChat/messages with tools and logprobs (streaming)": calls_with_logprobs,
    "TestGenerateChat/status error non-streaming": breaks(CHAT, False),
    "TestGenerateChat/status error streaming": breaks(CHAT, True),
    "TestGenerate/missing body": missing_body(TEXT),
    "TestGenerate/missing model": refused(TEXT, 404, "model 'other' not found", model="other", prompt="Hello!"),
    "TestGenerate/load model": loads(TEXT),
    "TestGenerate/prompt": prompted(TEXT, "user: Hello!\n", prompt="Hello!"),
    "TestGenerate/prompt with system": prompted(
        TEXT, "system: Be brief.\nuser: Hello!\n", prompt="Hello!", system="Be brief."
    ),
    "TestGenerate/raw": prompted(TEXT, "Help me write tests.", prompt="Help me write tests.", raw=True),
    "TestGenerate/status error non-streaming": breaks(TEXT, False),
    "TestGenerate/status error streaming": breaks(TEXT, True),
    "TestGenerateLogprobs/invalid top_logprobs negative": refused(
        TEXT, 400, "top_logprobs", prompt="Hello!", logprobs=True, top_logprobs=-1
    ),
    "TestGenerateLogprobs/invalid top_logprobs too high": refused(
        TEXT, 400, "top_logprobs", prompt="Hello!", logprobs=True, top_logprobs=21
    ),
    "TestGenerateLogprobs/returns logprob bytes when requested": logprob_bytes(TEXT),
    "TestChatLogprobs/invalid top_logprobs negative": refused(
        CHAT, 400, "top_logprobs", messages=[USER], logprobs=True, top_logprobs=-1
    ),
    "TestChatLogprobs/invalid top_logprobs too high": refused(
        CHAT, 400, "top_logprobs", messages=[USER], logprobs=True, top_logprobs=21
    ),
    "TestChatLogprobs/returns logprob bytes when requested": logprob_bytes(CHAT),
    "TestChatWithPromptEndingInThinkTag/streaming with thinking": ends_in_think(True),
    "TestGenerateUnload/unload with empty prompt and keepalive 0": unloads,
    "TestAnthropicMessagesMiddleware/basic message": anthropic_basic,
    "TestAnthropicMessagesMiddleware/with system prompt": anthropic_system,
    "TestAnthropicMessagesMiddleware/with options": anthropic_options,
    "TestAnthropicMessagesMiddleware/streaming": anthropic_streaming,
    "TestAnthropicMessagesMiddleware/with tools": anthropic_tools,
    "TestAnthropicMessagesMiddleware/with tool result": anthropic_result,
    "TestAnthropicMessagesMiddleware/missing max_tokens error": anthropic_refused("max_tokens", max_tokens=None),
    "TestAnthropicMessagesMiddleware/missing messages error": anthropic_refused("messages", messages=None),
    "TestAnthropicMessagesMiddleware/tool_use missing id error": anthropic_refused(
        "id is missing",
        messages=[USER, {"role": "assistant", "content": [{"type": "tool_use", "name": "a", "input": {}}]}, USER],
    ),
    "TestAnthropicMessagesMiddleware_InvalidJSON": anthropic_bad_json,
    "TestAnthropicWriter_ErrorFromRoutes/404 with gin.H error (model not found)": anthropic_no_model,
    "TestFromMessagesRequest_WithToolResultFollowedByUserText": anthropic_result,
    "TestFromMessagesRequest_ThinkingDisabledOverridesOutputConfigEffort": anthropic_effort,
    "TestFromMessagesRequest_ThinkingAdaptiveUsesOutputConfigEffort": anthropic_effort,
    "TestStreamConverter_TextBeforeThinking": anthropic_text_before_thinking,
    "TestStreamConverter_ThinkingDirectlyFollowedByToolCall": anthropic_thinking_then_call,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    SCENARIOS[name]()
    assert f"| `{name}` | passes |" in DOCUMENT.read_text(encoding="utf-8")
