"""Bad requests: each gets a 4xx with one sentence in the known shape, and the next request is answered."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.core import Event, Finish, Refusal, Request
from mlxrun.engine.handle import Handle

from .scripted import ScriptedEngine, ask, chat, complete, error_of, events_of, server

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f"}}
NESTED = b'{"prompt":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

# each of these kills or hangs at least one server in use
BODIES: dict[str, Any] = {
    "empty body": b"",
    "not UTF-8": b'{"prompt": "\xff\xfe"}',
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
    "not JSON": b"{prompt: 1}",
    "cut off": b'{"prompt": "a"',
    "a list": b"[1]",
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "infinity": b'{"prompt": "a", "temperature": 1e999}',
    "endless digits": b'{"prompt": "a", "seed": ' + b"9" * 10_000 + b"}",
    "more digits than a float has": b'{"prompt": "a", "x": -1' + b"0" * 400 + b"}",
    "nested": NESTED,
    "nested in what is left out": b'{"prompt": "a", "x": ' + b"[" * 64 + b"]" * 64 + b"}",
    "millions of ids": b'{"prompt": [' + b"1," * 300_000 + b"1]}",
    "millions of lists": b'{"prompt": [' + b"[]," * 300_000 + b"[]]}",
    "no prompt": {},
    "null prompt": {"prompt": None},
    "empty prompt": {"prompt": ""},
    "no prompts": {"prompt": []},
    "no ids": {"prompt": [[]]},
    "mixed prompt": {"prompt": ["a", 1]},
    "ids beyond the vocabulary": {"prompt": [999_999_999]},
    "negative ids": {"prompt": [-1]},
    "a prompt beyond the context": {"prompt": "a" * 1000},
    "stop is a number": {"prompt": "a", "stop": 5},
    "stop holds a number": {"prompt": "a", "stop": [1]},
    "stop is empty": {"prompt": "a", "stop": ""},
    "seed too large": {"prompt": "a", "seed": 2**70},
    "temperature of text": {"prompt": "a", "temperature": "NaN"},
    "max_tokens is a boolean": {"prompt": "a", "max_tokens": True},
    "max_tokens is negative": {"prompt": "a", "max_tokens": -2},
    "logit_bias": {"prompt": "a", "logit_bias": {"999999999": 5}},
    "a penalty beyond": {"prompt": "a", "repetition_penalty": 11},
    "mirostat of old": {"prompt": "a", "mirostat": 1},
    "mirostat at temperature 0": {"prompt": "a", "mirostat": 2, "temperature": 0},
    "bias of a word": {"prompt": "a", "logit_bias": {"Paris": 5}},
    "bias beyond": {"prompt": "a", "logit_bias": {"5": 101}},
    "too many biases": {"prompt": "a", "logit_bias": {str(i): 1 for i in range(1025)}},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bad_bodies(body: Any) -> None:
    own, _ = server()
    refused = ask(own, "/v1/completions", body, method="POST")
    assert refused.status_code == 400
    assert error_of(refused)["type"] == "invalid_request_error"
    assert complete(own).json()["choices"][0]["text"] == "Hello"


def test_values_inside_values_up_to_the_limit() -> None:
    own, _ = server()
    wide = b'{"prompt": "a", "x": [' + b",".join([b"[1]"] * 1000) + b"]}"
    commas = b'{"prompt": "a", "x": "' + b"," * 300_000 + b'"}'
    for body in (wide, commas, b'{"prompt": "a", "x": ' + b"[" * 63 + b"]" * 63 + b"}"):
        assert ask(own, "/v1/completions", body).status_code == 200


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "Hi",
        [5],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": None}],
        [{"role": "function", "content": "x", "name": "f"}],
        [{"role": "tool", "content": "x"}],
        [USER, {"role": "assistant", "content": None}],
        [USER, {"role": "assistant", "tool_calls": [{}]}],
        [USER, {"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": 5}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,&"}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://localhost/"}}]}],
    ],
)
def test_bad_messages(messages: Any) -> None:
    own, engine = server()
    refused = ask(own, "/v1/chat/completions", {"messages": messages})
    assert (refused.status_code, engine.handles) == (400, [])
    assert error_of(refused)["param"].startswith("messages")


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [{"type": "function"}]},
        {"tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        {"tools": [TOOL, TOOL]},
        {"tools": [{"type": "function", "function": {"name": f"f{i}"}} for i in range(513)]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
        {"reasoning_effort": "hard"},
        {"guided_grammar": 'root ::= "a"'},
        {"logit_bias": {"x": 1}},
        {"presence_penalty": 2.5},
        {"frequency_penalty": -3},
        {"functions": [{}]},
        {"modalities": ["audio"]},
        {"n": 9},
        {"n": 0},
        {"max_tokens": 5, "max_completion_tokens": 6},
    ],
)
def test_fields_that_would_change_the_answer_are_named(field: dict[str, Any]) -> None:
    own, engine = server()
    refused = chat(own, **field)
    assert (refused.status_code, engine.handles) == (400, [])
    assert error_of(refused)["param"].partition("[")[0] in field


def test_another_model() -> None:
    own, _ = server()
    refused = chat(own, model="gpt-4")
    assert (refused.status_code, error_of(refused)["code"]) == (404, "model_not_found")
    assert "'scripted' is served" in error_of(refused)["message"]
    assert ask(own, "/v1/models/gpt-4").status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_refuses(stream: bool) -> None:
    own, _ = server()
    refused = complete(own, "a" * 1000, stream=stream)
    assert refused.status_code == 400
    assert "no room in a context of 1000" in error_of(refused)["message"]


def test_what_breaks_on_the_way() -> None:
    own, _ = server(ScriptedEngine("", finish=Finish.FAILED, reason="It broke."))
    for stream in (False, True):
        broken = chat(own, stream=stream)
        assert (broken.status_code, error_of(broken)["type"]) == (500, "server_error")


def test_a_body_over_the_limit() -> None:
    own, _ = server(body_limit=1000)
    refused = complete(own, "a" * 1000)
    assert (refused.status_code, "larger than 1000 bytes" in error_of(refused)["message"]) == (413, True)
    unsaid = ask(own, "/v1/completions", b" " * 1001, headers={"content-length": ""})  # as it arrives
    assert unsaid.status_code == 413


def test_a_length_that_is_said_in_two_ways() -> None:
    own, _ = server()
    refused = ask(own, "/v1/completions", {"prompt": "a"}, headers={"transfer-encoding": "chunked"})
    assert (refused.status_code, refused.headers["connection"]) == (400, "close")


def test_too_many_answers_at_once() -> None:
    own, engine = server(max_concurrent=2)
    refused = chat(own, n=3)
    assert (refused.status_code, engine.handles) == (429, [])
    assert error_of(refused)["type"] == "rate_limit_error"
    assert refused.headers["retry-after"] == "3"  # so long the engine's answers take to end, one after the other
    assert chat(own, n=2).status_code == 200
    assert len(events_of(chat(own, n=2, stream=True))) > 2


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/completions", 405), ("POST", "/none", 404)])
def test_paths_and_methods(method: str, path: str, status: int) -> None:
    refused = ask(server()[0], path, method=method)
    assert refused.status_code == status
    assert error_of(refused)["message"]


def test_our_own_mistakes_are_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    own, engine = server()
    monkeypatch.setattr(engine, "submit", lambda request: 1 / 0)
    broken = chat(own)
    assert (broken.status_code, error_of(broken)["type"]) == (500, "server_error")


@pytest.mark.parametrize("stream", [False, True])
def test_programs_can_tell_that_a_prompt_is_too_long(stream: bool) -> None:
    """Agents shorten what they send when they read this code, and give up without it."""
    own, _ = server()
    for refused in (chat(own, "a" * 2000, stream=stream), complete(own, "a" * 2000, stream=stream)):
        assert refused.status_code == 400
        assert error_of(refused)["code"] == "context_length_exceeded"


class Ending(ScriptedEngine):
    end = Event()

    def submit(self, request: Request) -> Handle:
        handle = Handle(request)
        handle.post(self.end)
        return handle


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("seconds", "told"), [(None, "5"), (1.0, "1"), (7.2, "8")])
@pytest.mark.parametrize(("refusal", "status"), [(Refusal.BUSY, 503), (Refusal.QUEUE, 429)])
def test_who_did_nothing_wrong_is_told_when_to_come_again(
    refusal: Refusal, status: int, seconds: float | None, told: str, stream: bool
) -> None:
    full = Ending()
    full.end = Event(finish=Finish.REFUSED, reason="The queue is full.", refusal=refusal, retry_after=seconds)
    refused = chat(server(full)[0], stream=stream)
    assert (refused.status_code, refused.headers["retry-after"]) == (status, told)
    assert error_of(refused)["message"] == "The queue is full."


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_that_passed_is_no_mistake_of_ours(stream: bool) -> None:
    late = Ending()
    late.end = Event(finish=Finish.EXPIRED, reason="The answer was still waiting when its deadline of 2 s passed.")
    refused = chat(server(late)[0], stream=stream)
    assert refused.status_code == 504
    assert "deadline of 2 s" in error_of(refused)["message"]


def test_a_wrong_path_says_where_the_right_ones_are() -> None:
    assert ask(server()[0], "/api/nothing").json()["error"].startswith("There is nothing at '/api/nothing'")  # Ollama's
    missed = ask(server()[0], "/nowhere")
    assert missed.status_code == 404
    assert error_of(missed)["message"] == "There is nothing at '/nowhere'; /docs tells what there is."


@pytest.mark.parametrize("stream", [False, True])
def test_a_grammar_that_breaks_when_it_is_followed_is_whose_it_is(stream: bool) -> None:
    broken = Ending()
    reason = "What the answer is constrained by broke: too many items."
    broken.end = Event(finish=Finish.FAILED, reason=reason, refusal=Refusal.REQUEST)
    refused = chat(server(broken)[0], stream=stream)
    assert (refused.status_code, error_of(refused)["message"]) == (400, reason)
