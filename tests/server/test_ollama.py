"""Ollama's words: its lines in their order, its errors, and what becomes of a body."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from mlxrun.core import Finish, Usage
from mlxrun.parts import Arguments, CallBegun, CallEnded, Media, Piece, Said, Thought
from mlxrun.server.dialects.ollama_answers import LineEncoder, LineFraming, TextEncoder
from mlxrun.server.dialects.ollama_ask import chat_of, keep_of, seconds_of
from mlxrun.server.errors import ApiError
from mlxrun.turns import Role, Thinking

from .scripted import TEMPLATE, ScriptedEngine, ask, server

USER = {"role": "user", "content": "Hi"}
USAGE = Usage(30, 20, 9, 0.5, 0.1)
COUNTED = {"prompt_eval_count", "eval_count", "total_duration", "load_duration", "prompt_eval_duration"}
PLAIN = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
TOOLS = TEMPLATE.replace("<think>", "")  # calls in a form that is known
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def chat(own: Any, **fields: Any) -> httpx.Response:
    return ask(own, "/api/chat", {"model": "scripted", "messages": [USER], **fields})


def lines(raw: bytes | str) -> list[dict[str, Any]]:
    *told, rest = (raw.decode() if isinstance(raw, bytes) else raw).split("\n")
    assert rest == ""
    assert all(told)  # a blank line breaks readers
    return [json.loads(line) for line in told]


def prompt_of(engine: ScriptedEngine) -> str:
    return bytes(engine.asked[-1].tokens).decode()


def test_a_chat_comes_in_lines_unless_told_otherwise() -> None:
    own, engine = server(ScriptedEngine("<think>Hm.</think>Hello"))
    response = chat(own)
    assert response.headers["content-type"] == "application/x-ndjson"
    *said, last = lines(response.text)
    assert {(line["model"], line["done"], line["message"]["role"]) for line in said} == {
        ("scripted", False, "assistant")
    }
    assert all("content" in line["message"] for line in said)
    assert "".join(line["message"].get("thinking", "") for line in said) == "Hm."
    assert "".join(line["message"]["content"] for line in said) == "Hello"
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert (last["prompt_eval_count"], last["eval_count"]) == (len("user:Hi\n"), 23)
    assert last["eval_duration"] == 100_000_000
    assert last["created_at"].endswith("Z")
    assert prompt_of(engine) == "user:Hi\n"


def test_a_whole_chat() -> None:
    own, _ = server(ScriptedEngine("<think>Hm.</think>Hello"))
    answer = chat(own, stream=False).json()
    assert answer["message"] == {"role": "assistant", "content": "Hello", "thinking": "Hm."}
    assert (answer["done"], answer["done_reason"]) == (True, "stop")
    assert set(answer) >= COUNTED


def test_a_text() -> None:
    own, engine = server()
    body = {"model": "scripted", "prompt": "Hi", "system": "Be brief."}
    assert ask(own, "/api/generate", {**body, "stream": False}).json()["response"] == "Hello"
    assert prompt_of(engine) == "system:Be brief.\nuser:Hi\n"
    *said, last = lines(ask(own, "/api/generate", body).text)
    assert ("".join(line["response"] for line in said), last["response"]) == ("Hello", "")
    ask(own, "/api/generate", {"model": "scripted", "prompt": "Hi", "raw": True})
    assert prompt_of(engine) == "Hi"


CALLED = (
    Thought("Hm."),
    Said("Look:"),
    CallBegun(0, "call_1", "read"),
    Arguments(0, '{"path":'),
    Arguments(0, '"a"}'),
    CallEnded(0),
)
CALL = {"id": "call_1", "function": {"index": 0, "name": "read", "arguments": {"path": "a"}}}


def encoder(kind: type[LineEncoder] = LineEncoder, **framing: Any) -> LineEncoder:
    return kind(LineFraming("m", 0.25, **framing))


def test_calls_are_told_whole() -> None:
    own = encoder()
    told = lines(b"".join(own.piece(0, Piece((part,))) for part in CALLED))
    assert [line["message"] for line in told] == [
        {"role": "assistant", "content": "", "thinking": "Hm."},
        {"role": "assistant", "content": "Look:"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ]
    whole = encoder().whole([Piece(CALLED, finish=Finish.STOP, usage=USAGE)])
    assert whole["message"] == {
        "role": "assistant",
        "content": "Look:",
        "thinking": "Hm.",
        "tool_calls": [CALL],
    }
    cut = encoder().whole([Piece(CALLED[:-1], finish=Finish.LENGTH, usage=USAGE)])
    assert ("tool_calls" in cut["message"], cut["done_reason"]) == (False, "length")


def test_what_it_has_no_place_for() -> None:
    with pytest.raises(ApiError, match="image/png"):
        encoder(TextEncoder).piece(0, Piece((Media("image/png", b""),)))


def test_while_nothing_comes_a_line_says_so_and_an_error_is_one() -> None:
    (idle,) = lines(encoder().idle())
    assert (idle["message"]["content"], idle["done"]) == ("", False)
    assert lines(encoder().failed(ApiError(503, "The server is stopping."))) == [{"error": "The server is stopping"}]


@pytest.mark.parametrize(("path", "field"), [("/api/chat", "messages"), ("/api/generate", "prompt")])
def test_without_anything_to_answer_a_model_is_loaded_or_unloaded(path: str, field: str) -> None:
    own, engine = server()
    for empty in ({}, {field: [] if field == "messages" else ""}):
        (told,) = lines(ask(own, path, {"model": "scripted", **empty}).text)
        assert (told["done"], told["done_reason"]) == (True, "load")
    told = ask(own, path, {"model": "scripted", "keep_alive": 0, "stream": False}).json()
    assert told["done_reason"] == "unload"
    assert engine.asked == []
    assert own.traffic.reserve(own.traffic.limit)  # no place is kept


def test_logprobs() -> None:
    own, _ = server()
    *said, _ = lines(chat(own, logprobs=True, top_logprobs=1).text)
    streamed = [token for line in said for token in line.get("logprobs", ())]
    assert [token["token"] for token in streamed] == list("Hello")
    assert streamed[0]["top_logprobs"] == [{"token": "H", "logprob": -1.0, "bytes": [72]}]
    assert chat(own, logprobs=True, top_logprobs=1, stream=False).json()["logprobs"] == streamed
    assert "logprobs" not in chat(own, stream=False).json()


def test_every_sampler_is_taken_by_its_name() -> None:
    own, engine = server()
    options = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "typical_p": 0.8,
        "seed": 7,
        "repeat_penalty": 1.1,
        "repeat_last_n": 32,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "num_predict": 3,
        "stop": ["l"],
        "num_ctx": 4096,
    }
    answer = chat(own, options=options, stream=False)
    assert "x-mlxrun-left-out" not in answer.headers
    assert (answer.json()["message"]["content"], answer.json()["done_reason"]) == ("He", "stop")
    request = engine.asked[-1]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 4, 0.1)
    assert (sampling.typical_p, sampling.seed, request.max_tokens) == (0.8, 7, 3)
    assert (sampling.repetition_penalty, sampling.repeat_last_n) == (1.1, 32)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, 0.25)
    chat(own, options={"mirostat": 2, "mirostat_eta": 0.2})
    assert (engine.asked[-1].sampling.mirostat_tau, engine.asked[-1].sampling.mirostat_eta) == (5.0, 0.2)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"seed": -1, "top_k": -1, "num_predict": -2}, {"seed": None, "top_k": 0}),
        ({"top_p": 0}, {"temperature": 0, "top_p": 1.0}),
        ({"repeat_penalty": 1.2}, {"repetition_penalty": 1.2, "repeat_last_n": 64}),
        ({"repeat_penalty": 1.2, "repeat_last_n": 0}, {"repetition_penalty": 1.0}),
        ({"repeat_penalty": 1.2, "repeat_last_n": -1}, {"repetition_penalty": 1.2, "repeat_last_n": 0}),
        ({"mirostat": 0, "mirostat_tau": 4.0}, {"mirostat_tau": 0.0}),
    ],
)
def test_what_stands_for_not_set(options: dict[str, Any], wanted: dict[str, Any]) -> None:
    own, engine = server()
    assert chat(own, options=options).status_code == 200
    assert {name: getattr(engine.asked[-1].sampling, name) for name in wanted} == wanted
    assert engine.asked[-1].max_tokens is None


@pytest.mark.parametrize(("form", "schema"), [("json", {"type": "object"}), ({"type": "array"}, {"type": "array"})])
def test_what_the_answer_must_be(form: Any, schema: Any) -> None:
    own, engine = server()
    chat(own, format=form)
    constraint = engine.asked[-1].constraint
    assert constraint is not None
    assert json.loads(constraint.text) == schema
    chat(own, format="")
    assert engine.asked[-1].constraint is None


@pytest.mark.parametrize(
    ("asked", "keep"),
    [
        *[(None, "usual"), (0, 0.0), ("0", 0.0), (-1, None), ("-1s", None), ("-1", None), (90, 90.0), ("5m", 300.0)],
        *[("1h30m", 5400.0), ("500ms", 0.5), ("1.5h", 5400.0)],
    ],
)
def test_how_long_a_model_stays(asked: Any, keep: Any) -> None:
    assert keep_of(asked) == keep


@pytest.mark.parametrize("text", ["", "soon", "5 m", "5x", "--1", "m"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ApiError, match="keep_alive"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("think", "wanted"),
    [
        (None, Thinking()),
        (False, Thinking(on=False)),
        (True, Thinking(on=True, demanded=True)),
        ("low", Thinking(on=True, effort="low", demanded=True)),
        ("none", Thinking(on=False, effort="none")),
    ],
)
def test_how_much_is_thought(think: Any, wanted: Thinking) -> None:
    assert chat_of({"messages": [USER], "think": think}).thinking == wanted


def test_messages_become_turns() -> None:
    call = {"function": {"name": "read", "arguments": {"path": "a"}}}
    asked = chat_of(
        {
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": "U", "images": ["iVBORw0KGgo="]},
                {"role": "assistant", "thinking": "T", "tool_calls": [call, {**call, "id": "b"}]},
                {"role": "tool", "content": "second", "tool_call_id": "b"},
                {"role": "tool", "content": "first", "tool_name": "read"},
                {"role": "assistant", "content": "And"},
            ],
            "tools": [WEATHER],
        }
    )
    system, user, calls, second, first, last = asked.turns
    assert (system.text, user.text, user.content[1].type) == ("S", "U", "image/png")  # type: ignore[union-attr]  # a picture
    assert (calls.thoughts, [one.id for one in calls.calls]) == ("T", ["call_2_0", "b"])
    assert (second.answers, second.name, first.answers, first.name) == ("b", "read", "call_2_0", "read")
    assert (last.role, asked.continues) == (Role.ASSISTANT, True)
    assert [tool.name for tool in asked.tools] == ["weather"]


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "other"}, 404, "model 'other' not found"),
        ({"think": True}, 400, '"scripted" does not support thinking'),
        ({"think": "high"}, 400, '"scripted" does not support thinking'),
        ({"tools": [WEATHER]}, 400, '"scripted" does not support tools'),
        ({"messages": [{"role": "king", "content": "a"}]}, 400, "messages[0].role must be one of"),
        ({"messages": [{**USER, "images": ["%"]}]}, 400, "messages[0].images[0] holds no valid base64"),
        ({"options": {"temperature": "hot"}}, 400, "options.temperature must be a number"),
        ({"options": {"mirostat": 1}}, 400, "options.mirostat must be one of 0, 2"),
        ({"options": {"tfs_z": 0.5}}, 400, "options.tfs_z is not supported"),
        ({"keep_alive": "soon"}, 400, "keep_alive must be seconds"),
        ({"format": "yaml"}, 400, "format must be"),
        ({"messages": [{"role": "user", "content": "a" * 2000}]}, 400, "context of 1000"),
    ],
)
def test_what_cannot_be_served(fields: dict[str, Any], status: int, message: str) -> None:
    own, _ = server(template=PLAIN)
    for stream in (True, False):
        refused = chat(own, stream=stream, **fields)
        assert (refused.status_code, set(refused.json())) == (status, {"error"})
        assert message in refused.json()["error"]
    assert chat(own, think=False).status_code == 200


def test_unknown_options_are_left_out_and_told() -> None:
    own, _ = server()
    assert chat(own, options={"smoothing": 1}).headers["x-mlxrun-left-out"] == "options.smoothing"
