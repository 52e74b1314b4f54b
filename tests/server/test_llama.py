"""llama.cpp's paths: its completions, filling in, tokens and back, how it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxrun.core import Finish
from mlxrun.text.infill import InfillPrompt, infill_of

from . import scripted
from .scripted import Bytes, ScriptedEngine, ask, complete, error_of, server

MARKS = {"<|fim_prefix|>": 257, "<|fim_suffix|>": 258, "<|fim_middle|>": 259, "<|file_sep|>": 260}


class Coder(Bytes):
    """A tokenizer that has tokens for filling in."""

    vocab_size = 261

    def added_id(self, text: str) -> int | None:
        return MARKS.get(text)

    def is_special(self, token: int) -> bool:
        return token >= 256

    def _spell(self, token: int) -> bytes:
        return super()._spell(token) if token < 257 else {i: text.encode() for text, i in MARKS.items()}[token]


@pytest.fixture
def coder(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(scripted, "Bytes", Coder)
    monkeypatch.setattr(Bytes, "vocab_size", Coder.vocab_size)
    return server()


def spelled(tokens: tuple[int, ...]) -> str:
    return Coder().decode(tokens, skip_special=False)


@pytest.mark.parametrize("stream", [False, True])
def test_infill(stream: bool, coder: Any) -> None:
    own, engine = coder
    extra = [{"filename": "a.py", "text": "x = 1"}]
    body = {"input_prefix": "def f(", "prompt": "a, ", "input_suffix": "):", "input_extra": extra, "n_predict": 4}
    answer = ask(own, "/infill", {**body, "stream": stream, "t_max_predict_ms": 500, "repeat_penalty": 1.2})
    (asked,) = engine.asked
    assert spelled(asked.tokens) == (
        "<|file_sep|>a.py\nx = 1\n<|file_sep|><|fim_prefix|>def f(a, <|fim_suffix|>):<|fim_middle|>"
    )
    assert (asked.max_tokens, asked.sampling.repetition_penalty) == (4, 1.2)
    assert set(MARKS.values()) <= asked.stop_ids
    told = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line] if stream else [answer.json()]
    assert "".join(one["content"] for one in told) == "Hell"
    assert (told[-1]["stop"], told[-1]["stop_type"], told[-1]["tokens_predicted"]) == (True, "limit", 4)
    assert told[-1]["timings"]["predicted_per_second"] > 0


def test_a_suffix_of_openai_s_is_the_same(coder: Any) -> None:
    own, engine = coder
    assert complete(own, "a <|fim_suffix|>", suffix="b", echo=True).json()["choices"][0]["text"].endswith("Hello")
    asked = engine.asked[0]
    assert asked.tokens[0] == MARKS["<|fim_prefix|>"]
    assert [token for token in asked.tokens if token > 256] == [257, 258, 259]  # what is written stays text
    refused = complete(own, [97], suffix="b")
    assert error_of(refused)["param"] == "suffix"


def test_who_was_not_taught_says_so() -> None:
    own, engine = server()
    for refused in (ask(own, "/infill", {"input_prefix": "a"}), complete(own, suffix="x")):
        assert (refused.status_code, engine.asked) == (400, [])
        assert "was not taught to fill in" in error_of(refused)["message"]


def test_a_suffix_that_comes_first() -> None:
    class Codestral(Bytes):
        def added_id(self, text: str) -> int | None:
            return {"[PREFIX]": 300, "[SUFFIX]": 301}.get(text)

    found = infill_of(Codestral())
    assert found is not None
    assert found.prompt(InfillPrompt("a", "b", (("f", "c"),))) == [99, 10, 301, 98, 300, 97]
    assert infill_of(Bytes()) is None


@pytest.mark.parametrize("n_predict", [None, -1, 3])
def test_completion(n_predict: int | None) -> None:
    own, engine = server(ScriptedEngine("Hello", finish=Finish.STOP))
    told = ask(own, "/completion", {"prompt": "Hi", "n_predict": n_predict, "stop": ["l"]}).json()
    assert (told["content"], told["stop_type"], told["stopping_word"]) == ("He", "word", "l")
    assert engine.asked[0].max_tokens == (3 if n_predict == 3 else None)


def test_tokens_and_back() -> None:
    own, _ = server()
    assert ask(own, "/tokenize", {"content": "hé"}).json() == {"tokens": [104, 195, 169]}
    assert ask(own, "/tokenize", {"content": ["h", 7]}).json() == {"tokens": [104, 7]}
    pieces = ask(own, "/tokenize", {"content": "hé", "with_pieces": True}).json()["tokens"]
    assert pieces == [{"id": 104, "piece": "h"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}]
    assert ask(own, "/detokenize", {"tokens": [104, 195, 169]}).json() == {"content": "hé"}
    assert ask(own, "/detokenize", {"tokens": []}).json() == {"content": ""}
    assert error_of(ask(own, "/detokenize", {"tokens": [999]}))["param"] == "tokens"
    assert error_of(ask(own, "/tokenize", {"content": 5}))["param"] == "content"


def test_a_rendered_conversation() -> None:
    own, engine = server()
    told = ask(own, "/apply-template", {"messages": [{"role": "user", "content": "Hi"}], "colour": 1})
    assert (told.json(), engine.asked) == ({"prompt": "user:Hi\n"}, [])
    assert told.headers["x-mlxrun-left-out"] == "colour"


def test_how_it_stands() -> None:
    own, _ = server()
    told = ask(own, "/props").json()
    assert (told["default_generation_settings"]["n_ctx"], told["model_alias"]) == (1000, "scripted")
    assert "messages" in told["chat_template"]
    assert ask(own, "/slots").json() == []
    assert ask(own, "/props?model=other").status_code == 404
