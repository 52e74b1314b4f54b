"""/v1/completions: prompts of every kind, and the older shape of log-probabilities."""

from __future__ import annotations

from typing import Any

import pytest

from .scripted import ScriptedEngine, complete, error_of, events_of, server


def test_a_whole_answer() -> None:
    own, engine = server()
    answer = complete(own).json()
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}]
    assert engine.handles[0].request.max_tokens == 16


def test_a_stream() -> None:
    own, _ = server()
    *chunks, last = events_of(complete(own, stream=True, max_tokens=2, stream_options={"include_usage": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "He"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("ab", [b"ab"]),
        ([97, 98], [b"ab"]),
        (["a", "b"], [b"a", b"b"]),
        ([[97], [98, 99]], [b"a", b"bc"]),
    ],
)
def test_prompts(prompt: Any, asked: list[bytes]) -> None:
    own, engine = server()
    answer = complete(own, prompt, n=2).json()
    assert [bytes(handle.request.tokens) for handle in engine.handles] == [p for p in asked for _ in range(2)]
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * len(asked)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, asked))


def test_at_most_eight_answers() -> None:
    own, engine = server()
    assert complete(own, ["a", "b"], n=4).status_code == 200
    refused = error_of(complete(own, ["a", "b", "c"], n=3))
    assert (refused["param"], len(engine.handles)) == ("n", 8)
    assert "9 answers" in refused["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(stream: bool) -> None:
    own, _ = server(ScriptedEngine("aéb"))
    if stream:
        parts = [chunk["choices"][0]["logprobs"] for chunk in events_of(complete(own, logprobs=2, stream=True))]
        logprobs = {name: [item for part in parts for item in part[name]] for name in parts[0]}
    else:
        logprobs = complete(own, logprobs=2).json()["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", "b"]
    assert logprobs["text_offset"] == [0, 1, 1, 2]
    assert logprobs["token_logprobs"] == [-1.0] * 4
    assert logprobs["top_logprobs"][0] == {"a": -1.0, "b": -9999.0}
    assert complete(own, logprobs=0).json()["choices"][0]["logprobs"]["top_logprobs"][0] == {"a": -1.0}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"echo": True, "logprobs": 1, "suffix": "b"}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_what_is_not_supported_is_named(fields: dict[str, Any], param: str) -> None:
    own, engine = server()
    refused = complete(own, **fields)
    assert (refused.status_code, error_of(refused)["param"], engine.handles) == (400, param, [])


def test_the_best_of_several_are_asked_for() -> None:
    own, engine = server()
    assert len(complete(own, best_of=5, n=2).json()["choices"]) == 2
    assert {(handle.request.n, handle.request.best_of) for handle in engine.handles} == {(1, 5)}


def test_neutral_values_pass() -> None:
    own, _ = server()
    assert complete(own, echo=False, suffix="", best_of=1).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_echo_begins_with_the_prompt(stream: bool) -> None:
    own, _ = server()
    answer = complete(own, ["ab", "c"], echo=True, n=2, stream=stream)
    told = [chunk["choices"][0] for chunk in events_of(answer)] if stream else answer.json()["choices"]
    texts = ["".join(one["text"] for one in told if one["index"] == index) for index in range(4)]
    assert texts == ["abHello", "abHello", "cHello", "cHello"]
    assert complete(own, [97, 98], echo=True).json()["choices"][0]["text"] == "abHello"
