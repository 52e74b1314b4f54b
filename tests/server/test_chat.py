"""/v1/chat/completions: shapes that clients of OpenAI's interface read, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.core import Priority

from .scripted import ScriptedEngine, ask, chat, error_of, events_of, server


def test_a_whole_answer() -> None:
    own, engine = server(ScriptedEngine(cached=2))
    answer = chat(own, "Hi", model="scripted", max_tokens=50).json()
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "scripted"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": len("user:Hi\n"),
        "completion_tokens": 5,
        "total_tokens": len("user:Hi\n") + 5,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert bytes(engine.handles[0].request.tokens) == b"user:Hi\n"


def test_a_stream_is_the_same_in_pieces() -> None:
    own, _ = server(ScriptedEngine("Zür ich"))
    chunks = events_of(chat(own, stream=True))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Zür ich"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_at_the_end_of_a_stream() -> None:
    own, _ = server()
    *chunks, last = events_of(chat(own, stream=True, stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 5)
    assert "only allowed with stream" in error_of(chat(own, stream_options={}))["message"]


def test_neutral_values_that_are_lists_and_objects() -> None:
    own, engine = server()
    raw = (
        b'{"modalities": ["text"], "response_format": {"type": "text"}, "logit_bias": {}, "tools": [],'
        b' "top_p": 2.220446049250313e-16, "messages": [{"audio": null, "content": "\\u008a", "role": "user",'
        b' "name": "\\ud8a8\\udf47M\\udace"}]}'
    )
    assert ask(own, "/v1/chat/completions", raw).status_code == 200
    assert bytes(engine.handles[0].request.tokens).decode() == "user(\U0003a347M\ufffd):\x8a\n"


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_is_told_apart(stream: bool) -> None:
    own, _ = server(ScriptedEngine("<think>Hm.</think>Yes"))
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in events_of(chat(own, stream=True))]
        said = {name: "".join(d.get(name, "") for d in deltas) for name in ("reasoning_content", "content")}
    else:
        said = chat(own).json()["choices"][0]["message"]
    assert (said["reasoning_content"], said["content"]) == ("Hm.", "Yes")


def test_template_variables_reach_the_template_and_open_the_reasoning() -> None:
    own, engine = server(ScriptedEngine("Hm.</think>Yes"))
    message = chat(own, chat_template_kwargs={"enable_thinking": True}).json()["choices"][0]["message"]
    assert bytes(engine.handles[0].request.tokens).endswith(b"<think>")
    assert (message["reasoning_content"], message["content"]) == ("Hm.", "Yes")


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "self"])
def test_template_variables_cannot_take_the_place_of_arguments(name: str) -> None:
    own, _ = server()
    assert name in error_of(chat(own, chat_template_kwargs={name: []}))["message"]


def test_reasoning_effort_where_the_template_knows_it_and_no_error_elsewhere() -> None:
    """Agents send it unasked, to every model."""
    own, engine = server(template="{{ reasoning_effort }}{{ messages[0].content }}")
    assert chat(own, reasoning_effort="low").status_code == 200
    assert bytes(engine.handles[0].request.tokens) == b"lowHi"
    assert chat(server()[0], reasoning_effort="low").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("stop", "shown"), [("lo", "Hel"), (["x", "ll"], "He"), ("H", ""), ("nothing", "Hello")])
def test_stop_strings_across_tokens(stop: Any, shown: str, stream: bool) -> None:
    own, _ = server()
    if stream:
        chunks = [chunk["choices"][0] for chunk in events_of(chat(own, stop=stop, stream=True))]
        said, finish = "".join(chunk["delta"].get("content", "") for chunk in chunks), chunks[-1]["finish_reason"]
    else:
        choice = chat(own, stop=stop).json()["choices"][0]
        said, finish = choice["message"]["content"], choice["finish_reason"]
    assert (said, finish) == (shown, "stop")


def test_logprobs() -> None:
    own, _ = server(ScriptedEngine("é"))  # two bytes, two tokens
    choice = chat(own, logprobs=True, top_logprobs=2).json()["choices"][0]
    assert choice["logprobs"]["refusal"] is None
    first, second = choice["logprobs"]["content"]
    assert first["bytes"] + second["bytes"] == list("é".encode())
    assert first["top_logprobs"][0] == {"token": "\ufffd", "logprob": -1.0, "bytes": [0xC3]}
    assert first["top_logprobs"][1]["logprob"] == -9999.0  # minus infinity is no JSON
    assert len(second["top_logprobs"]) == 2
    assert chat(own, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert chat(own).json()["choices"][0]["logprobs"] is None
    assert error_of(chat(own, top_logprobs=2))["param"] == "top_logprobs"


def test_streamed_logprobs_are_those_of_the_whole() -> None:
    own, _ = server()
    whole = chat(own, logprobs=True, top_logprobs=1).json()["choices"][0]["logprobs"]["content"]
    chunks = events_of(chat(own, logprobs=True, top_logprobs=1, stream=True))
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [token for part in parts if part for token in part["content"]] == whole


def test_several_answers_draw_with_seeds_of_their_own() -> None:
    own, engine = server()
    answer = chat(own, n=3, seed=2**64 - 1).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [request.n for request in engine.asked] == [3]  # whose answers the engine draws with seed + index
    assert engine.asked[0].sampling.seed == 2**64 - 1
    assert answer["usage"]["completion_tokens"] == 15
    assert answer["usage"]["prompt_tokens"] == len("user:Hi\n")


def test_what_a_request_says_of_sampling_wins_over_the_defaults() -> None:
    own, engine = server()
    chat(own, top_k=5, min_p=0.1, top_p=0.5, max_completion_tokens=3)
    chat(own, temperature=0, max_tokens=None)
    first, second = (handle.request for handle in engine.handles)
    assert (first.sampling.temperature, first.sampling.top_k, first.max_tokens) == (0.7, 5, 3)
    assert (second.sampling.temperature, second.max_tokens) == (0, None)


def test_every_sampler_is_taken_by_its_name() -> None:
    own, engine = server()
    numbers = {
        "presence_penalty": 0.5,
        "frequency_penalty": -1,
        "repetition_penalty": 1.1,
        "repeat_last_n": 64,
        "typical_p": 0.9,
        "top_n_sigma": 2.0,
        "xtc_probability": 0.3,
        "xtc_threshold": 0.2,
        "dry_multiplier": 0.8,
        "dry_base": 1.5,
        "dry_allowed_length": 3,
        "dry_penalty_last_n": 100,
        "mirostat_eta": 0.2,
    }
    chat(own, **numbers, mirostat=2, logit_bias={"7": -100, "8": 1.5})
    chat(own, mirostat=0, mirostat_tau=3.0, dry_multiplier=1, dry_sequence_breakers=["e", "lo"])
    first, second = (handle.request.sampling for handle in engine.handles)
    assert {name: getattr(first, name) for name in numbers} == numbers
    assert (first.mirostat_tau, first.bias) == (5.0, ((7, -100), (8, 1.5)))
    assert (second.mirostat_tau, second.repetition_penalty) == (0.0, 1.0)
    assert {ord(":"), ord("\n")} <= first.dry_breakers
    assert ord("e") in second.dry_breakers
    assert ord(":") not in second.dry_breakers


def test_content_in_parts_and_roles() -> None:
    own, engine = server()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": parts}, {"role": "user", "content": "c", "name": "Ann"}]
    assert ask(own, "/v1/chat/completions", {"messages": messages}).status_code == 200
    assert bytes(engine.handles[0].request.tokens) == b"system:a\nb\nuser(Ann):c\n"


def test_harmless_fields_are_ignored() -> None:
    own, _ = server()
    fields = {"user": "me", "metadata": {"a": 1}, "store": True, "service_tier": "auto", "parallel_tool_calls": True}
    neutral = {"tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "presence_penalty": 0.0}
    assert chat(own, **fields, **neutral, logit_bias={}, logprobs=None, n=None).status_code == 200


def test_lone_surrogates_become_replacement_characters_everywhere() -> None:
    own, engine = server(template="{{ x }}{{ messages[0].content }}")
    body = rb'{"messages":[{"role":"user","content":"a\ud800b"}],"chat_template_kwargs":{"x":"\udfff"}}'
    assert ask(own, "/v1/chat/completions", body).status_code == 200
    assert bytes(engine.handles[0].request.tokens).decode() == "\ufffda\ufffdb"


def test_a_base_model_says_that_it_is_one() -> None:
    own, _ = server(template=None)
    assert "base model" in error_of(chat(own))["message"]


@pytest.mark.parametrize(
    "template",
    ["{{ 1e400 }}", "{{ " + "9" * 5000 + " }}", "{{ 'ab'|truncate(-1) }}", "{{ nothing.at.all }}", "{% x"],
    ids=["infinite", "long number", "asserts", "undefined", "no tag"],
)
def test_a_template_that_fails_is_a_refusal(template: str) -> None:
    own, _ = server(template=template)
    refused = chat(own)
    assert refused.status_code == 400
    assert error_of(refused)["message"].startswith("The chat template of Scripted ")


def test_a_template_that_refuses() -> None:
    own, _ = server(template="{{ raise_exception('No user twice') }}")
    refused = chat(own)
    assert (refused.status_code, "No user twice" in error_of(refused)["message"]) == (400, True)


def test_a_flexible_answer_goes_where_others_leave_room() -> None:
    own, engine = server()
    for tier in ("flex", "auto", None):
        assert chat(own, service_tier=tier).status_code == 200
    assert [request.priority for request in engine.asked] == [Priority.BATCH, *[Priority.INTERACTIVE] * 2]


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/messages", "/responses"])
def test_a_path_without_its_version_is_the_same(path: str) -> None:
    """Many a program is given the address of the server alone."""
    own, _ = server()
    body = {"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "input": "Hi", "max_tokens": 5}
    assert ask(own, path, body).json().keys() == ask(own, f"/v1{path}", body).json().keys()
    assert ask(own, path, {}).json().keys() == ask(own, f"/v1{path}", {}).json().keys()  # errors in the same words
    assert ask(own, "/models").json() == ask(own, "/v1/models").json()
