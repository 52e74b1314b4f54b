"""Scenarios of llama.cpp's server tests (tools/server/tests/unit) and of vLLM's (tests/entrypoints/openai), by their
names there. Written anew for our scripted engine; docs/conformance.md tells their state.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxrun.core import Shape

from .scripted import ScriptedEngine, ask, chat, complete, error_of, events_of, server

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
CHAT, TEXT, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
USER = {"role": "user", "content": "What is the best book"}
BOOK = [{"role": "system", "content": "Book"}, USER]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
CALLING = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
    '<tool_call>\n{{ {"name": c.function.name, "arguments": c.function.arguments} | tojson }}\n</tool_call>'
    "{% endfor %}\n{% endfor %}{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
)


def posted(path: str, /, **body: Any) -> tuple[Any, ScriptedEngine]:
    own, engine = server()
    return ask(own, path, body), engine


def refused(path: str, param: str | None = None, /, **body: Any) -> Callable[[], None]:
    def test() -> None:
        answer, engine = posted(path, **body)
        assert (answer.status_code, engine.asked) == (400, [])
        told = error_of(answer)
        assert param is None or (told["param"] or "").startswith(param), told

    return test


def bad_messages() -> None:
    bad: list[Any] = [None, "string", [123], [{}], [{"role": 123}], [{"role": "system", "content": 123}], [*BOOK, {}]]
    for messages in bad:
        refused(CHAT, "messages", messages=messages)()


def chat_completion() -> None:
    for content in (USER["content"], [{"type": "text", "text": "What is"}, {"type": "text", "text": "the best book"}]):
        answer, _ = posted(CHAT, max_tokens=4, messages=[BOOK[0], {"role": "user", "content": content}])
        told = answer.json()
        assert "cmpl" in told["id"]
        assert (told["choices"][0]["message"]["role"], told["choices"][0]["finish_reason"]) == ("assistant", "length")
        assert told["usage"]["completion_tokens"] == 4
        assert told["usage"]["prompt_tokens"] > 0


def chat_stream() -> None:
    own, _ = server()
    first, *others = events_of(chat(own, stream=True, max_tokens=4, stream_options={"include_usage": True}))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in others if chunk["choices"])
    assert len({chunk["id"] for chunk in (first, *others)}) == 1
    assert others[-1]["usage"]["completion_tokens"] == 4
    assert others[-2]["choices"][0]["finish_reason"] == "length"


def prefill() -> None:
    for content in ("Whill", [{"type": "text", "text": "Whill"}]):
        answer, engine = posted(CHAT, messages=[*BOOK, {"role": "assistant", "content": content}])
        assert answer.status_code == 200
        assert bytes(engine.asked[0].tokens).endswith(b"assistant:Whill")


def response_format(fields: Any, wanted: Any) -> Callable[[], None]:
    def test() -> None:
        answer, engine = posted(CHAT, messages=BOOK, **fields)
        constraint = engine.asked[0].constraint
        assert answer.status_code == 200
        assert constraint is not None
        assert (constraint.shape, json.loads(constraint.text)) == (Shape.JSON_SCHEMA, wanted)

    return test


def logprobs(stream: bool) -> Callable[[], None]:
    def test() -> None:
        own, _ = server()
        answer = chat(own, logprobs=True, top_logprobs=2, stream=stream)
        told = events_of(answer) if stream else [answer.json()]
        tokens = [t for one in told for t in (one["choices"][0]["logprobs"] or {"content": []})["content"]]
        assert "".join(token["token"] for token in tokens) == "Hello"
        assert all(token["logprob"] <= 0 and token["bytes"] and token["top_logprobs"] for token in tokens)

    return test


def logit_bias() -> None:
    answer, engine = posted(CHAT, messages=BOOK, logit_bias={"105": -100, "73": -100})
    assert answer.status_code == 200
    assert engine.asked[0].sampling.bias == ((105, -100), (73, -100))


def too_long(stream: bool) -> Callable[[], None]:
    def test() -> None:
        answer, _ = posted(CHAT, messages=BOOK * 100, stream=stream)
        assert (answer.status_code, error_of(answer)["code"]) == (400, "context_length_exceeded")

    return test


def choices() -> None:
    answer, _ = posted(CHAT, messages=BOOK, n=2, max_tokens=4)
    assert [one["finish_reason"] for one in answer.json()["choices"]] == ["length", "length"]


def tokens_and_back() -> None:
    text = "What is the capital of France ?"
    tokens = posted("/tokenize", content=text)[0].json()["tokens"]
    assert posted("/detokenize", tokens=tokens)[0].json() == {"content": text}


def pieces() -> None:
    told = posted("/tokenize", content="unicode 媽 and emoji 🤗", with_pieces=True)[0].json()["tokens"]
    assert all(one["id"] > 0 and one["piece"] for one in told)


def null_choice() -> None:
    for tools in ([WEATHER], None):
        own, engine = server(template=CALLING)
        assert chat(own, tools=tools, tool_choice=None).status_code == 200
        assert len(engine.asked) == 1
    own, engine = server()
    assert chat(own, tool_choice=None, structured_outputs={"json": {"type": "object"}}).status_code == 200
    assert engine.asked[0].constraint is not None


def no_object() -> None:
    own, _ = server()
    for body in (b'"this is not valid json{{{', b'["not", "an", "object"]', b"42", b"null"):
        assert ask(own, CHAT, body).status_code == 400


def omitted() -> None:
    from .test_chat_tools import CALLS, Piece, streamed

    calls = [c for chunk in streamed([Piece(CALLS[2:5])]) for c in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert set(calls[0]) == {"index", "id", "type", "function"}
    assert [set(call) for call in calls[1:]] == [{"index", "function"}] * (len(calls) - 1)
    assert all(set(call["function"]) == {"arguments"} for call in calls[1:])


def usage_whole() -> None:
    assert posted(CHAT, messages=BOOK)[0].json()["usage"]["completion_tokens"] == 5


def usage_stream(asked: bool) -> Callable[[], None]:
    def test() -> None:
        own, _ = server()
        told = events_of(chat(own, stream=True, stream_options={"include_usage": True} if asked else None))
        assert any(chunk.get("usage") and not chunk["choices"] for chunk in told) is asked

    return test


def outside() -> None:
    answer, _ = posted(TEXT, prompt=[999_999])
    assert (answer.status_code, "token id outside" in error_of(answer)["message"]) == (400, True)


def echo() -> None:
    own, _ = server()
    assert complete(own, "Hi", echo=True).json()["choices"][0]["text"] == "HiHello"


def bad_extra() -> None:
    for extra in ({}, {"filename": "ok"}, {"filename": 123}, {"filename": 123, "text": "abc"}):
        refused("/infill", "input_extra", input_prefix="a", input_suffix="b", input_extra=[extra])()


def bad_documents() -> None:
    for documents in ([], None, 123, [1, 2, 3]):
        refused("/rerank", "documents", query="Machine learning is", documents=documents)()


NUMBER = {"type": "json_object", "schema": 123}
LLAMA: dict[str, Callable[[], None]] = {
    "test_chat_completion": chat_completion,
    "test_chat_completion_stream": chat_stream,
    "test_chat_template_assistant_prefill": prefill,
    "test_completion_with_response_format/json_object": response_format(
        {"response_format": {"type": "json_object"}}, {"type": "object"}
    ),
    "test_completion_with_response_format/json_object with schema": response_format(
        {"response_format": {"type": "json_object", "schema": {"const": "42"}}}, {"const": "42"}
    ),
    "test_completion_with_response_format/json_schema": response_format(
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": "f"}}}}, {"const": "f"}
    ),
    "test_completion_with_response_format/sound": refused(
        CHAT, "response_format", messages=BOOK, response_format={"type": "sound"}
    ),
    "test_completion_with_response_format/schema is a number": refused(
        CHAT, "response_format", messages=BOOK, response_format=NUMBER
    ),
    "test_completion_with_json_schema": response_format({"json_schema": {"const": "42"}}, {"const": "42"}),
    "test_invalid_chat_completion_req": bad_messages,
    "test_logprobs": logprobs(False),
    "test_logprobs_stream": logprobs(True),
    "test_logit_bias": logit_bias,
    "test_context_size_exceeded": too_long(False),
    "test_context_size_exceeded_stream": too_long(True),
    "test_chat_completions_multiple_choices": choices,
    "test_tokenize_detokenize": tokens_and_back,
    "test_tokenize_with_pieces": pieces,
    "test_invalid_input_extra_req": bad_extra,
    "test_invalid_rerank_req": bad_documents,
}
VLLM: dict[str, Callable[[], None]] = {
    "test_null_tool_choice_defaults_to_auto_like_an_absent_one": null_choice,
    "test_null_tool_choice_does_not_conflict_with_structured_outputs": null_choice,
    "test_invalid_tool_choice_is_still_rejected": refused(CHAT, "tool_choice", messages=BOOK, tool_choice="bogus"),
    "test_chat_completion_request_rejects_non_object_body": no_object,
    "test_delta_tool_call_serialization_omit_null": omitted,
    "TestUsagePolicyDefault/test_non_streaming": usage_whole,
    "TestUsagePolicyDefault/test_streaming_no_usage": usage_stream(False),
    "TestUsagePolicyDefault/test_streaming_with_usage_option": usage_stream(True),
    "test_empty_prompt": refused(TEXT, "prompt", prompt=None),
    "test_out_of_vocab_token_ids": outside,
    "test_chat_logit_bias_valid": logit_bias,
    "test_chat_logit_bias_non_integer_key": refused(
        CHAT, "logit_bias", messages=BOOK, logit_bias={"not_a_token_id": 50}
    ),
    "test_chat_logit_bias_non_numeric_value": refused(CHAT, "logit_bias", messages=BOOK, logit_bias={"1": "x"}),
    "test_echo_stream_completion": echo,
}


@pytest.mark.parametrize("name", [*LLAMA, *VLLM])
def test_scenario(name: str) -> None:
    (LLAMA | VLLM)[name]()
    assert f"| `{name}` | passes |" in DOCUMENT.read_text(encoding="utf-8")
