"""echo with logprobs: a prompt's own log-probabilities, beside a softmax in float64 of the model's own logits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.loading import load_model

from .process import Serving
from .scripted import complete, error_of, server

LONG = [(7 * i * i + 3 * i) % 256 for i in range(700)]  # more than are read at once


@pytest.fixture(scope="module")
def wanted(tiny_folder: Path) -> Any:
    """(tokens - 1, vocabulary) of LONG, each row after the token before."""
    model = load_model(tiny_folder)
    hidden = model(mx.array(LONG), [(model.new_sequence(len(LONG)), len(LONG))])
    logits = np.array(model.logits(hidden).astype(mx.float32)).astype(np.float64)[:-1]
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )


def asked(tiny: Serving, **fields: Any) -> Any:
    answer = tiny.post("/v1/completions", {"prompt": LONG, "echo": True, "logprobs": 3, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("written", [0, 1, 5])
def test_log_probabilities_of_a_prompt(written: int, tiny: Serving, wanted: Any) -> None:
    told = asked(tiny, max_tokens=written)
    (choice,) = told["choices"]
    logprobs, text = choice["logprobs"], bytes(LONG)
    assert {len(column) for column in logprobs.values()} == {len(LONG) + written}
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    own = wanted[np.arange(len(LONG) - 1), LONG[1:]]
    np.testing.assert_allclose(logprobs["token_logprobs"][1 : len(LONG)], own, atol=1e-4)
    best = np.sort(wanted, axis=-1)[:, ::-1][:, :3]
    for row, top in enumerate(logprobs["top_logprobs"][1 : len(LONG)]):
        assert len(top) in (3, 4)  # the token itself is told in any case
        np.testing.assert_allclose(sorted(top.values(), reverse=True)[:3], best[row], atol=1e-4)
    assert choice["finish_reason"] == "length"
    usage = told["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(LONG), written)
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
    assert len(choice["text"]) >= len(text.decode("utf-8", "replace"))


def test_what_is_written_then_is_what_is_written_without(tiny: Serving) -> None:
    fields = {"temperature": 0, "max_tokens": 4, "logprobs": 2}
    alone = tiny.post("/v1/completions", {"prompt": LONG[:40], **fields}).json()["choices"][0]
    both = tiny.post("/v1/completions", {"prompt": LONG[:40], "echo": True, **fields}).json()["choices"][0]
    assert both["text"].endswith(alone["text"])
    for name in ("tokens", "token_logprobs", "top_logprobs"):
        assert both["logprobs"][name][40:] == alone["logprobs"][name]


def test_others_are_told_what_they_are_told_alone(tiny: Serving) -> None:
    fields = {"prompt": "others", "max_tokens": 60, "seed": 5, "temperature": 1, "logprobs": 1}
    alone = tiny.post("/v1/completions", fields).json()["choices"][0]
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            asked(tiny, max_tokens=0)

    beside = threading.Thread(target=busy)
    beside.start()
    try:
        found = [tiny.post("/v1/completions", fields).json()["choices"][0] for _ in range(3)]
    finally:
        stop.set()
        beside.join()
    assert found == [alone] * 3


def test_a_text_in_a_stream_and_several_prompts(tiny: Serving) -> None:
    told = asked(tiny, prompt=["abc", "é"], max_tokens=0)["choices"]
    assert [one["text"] for one in told] == ["abc", "é"]
    assert told[0]["logprobs"]["tokens"] == ["a", "b", "c"]
    assert (told[0]["logprobs"]["text_offset"], told[1]["logprobs"]["text_offset"]) == ([0, 1, 2], [0, 0])
    streamed = tiny.post(
        "/v1/completions", {"prompt": "abc", "echo": True, "logprobs": 0, "max_tokens": 2, "stream": True}
    ).text
    assert streamed.count('"token_logprobs":[null') == 1
    assert streamed.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize("prompt", [[5] * 2000, [300, 1], [999_999], ""])
def test_prompts_that_cannot_be_read(prompt: Any, tiny: Serving) -> None:
    refused = tiny.post("/v1/completions", {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 0})
    assert refused.status_code == 400
    assert error_of(refused)["message"]
    assert tiny.answers()


def test_the_prompt_alone_asks_nothing_of_the_model() -> None:
    own, engine = server()
    (choice,) = complete(own, "ab", echo=True, max_tokens=0).json()["choices"]
    assert (choice["text"], choice["finish_reason"], engine.asked) == ("ab", "length", [])
