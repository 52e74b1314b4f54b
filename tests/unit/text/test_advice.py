"""How a model is drawn from where nobody asks for anything."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.core import Sampling
from mlxrun.spec import ModelError
from mlxrun.text.advice import TEMPERATURE, from_generation_config, from_gguf

ALL = {"general.sampling.penalty_last_n": -1}


def test_what_authors_write_down() -> None:
    told = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "max_length": 99, "do_sample": True}
    assert from_generation_config(told) == Sampling(temperature=0.6, top_p=0.95, top_k=20, min_p=0)
    assert from_generation_config({"repetition_penalty": 1.05, "typical_p": 0.9}) == Sampling(
        TEMPERATURE, repetition_penalty=1.05, typical_p=0.9
    )
    metadata = {"general.sampling.temp": 0.6, "general.sampling.top_k": 20, "general.sampling.xtc_threshold": 0.2}
    assert from_gguf(metadata) == Sampling(temperature=0.6, top_k=20, xtc_threshold=0.2)


@pytest.mark.parametrize(("last", "looks_back"), [({}, 64), ({"general.sampling.penalty_last_n": 20}, 20), (ALL, 0)])
def test_how_far_a_gguf_files_penalty_looks_back(last: dict[str, int], looks_back: int) -> None:
    penalty = {"general.sampling.penalty_repeat": 1.1}
    assert from_gguf(penalty | last) == Sampling(TEMPERATURE, repetition_penalty=1.1, repeat_last_n=looks_back)
    assert from_gguf(penalty | {"general.sampling.penalty_last_n": 0}) == Sampling(TEMPERATURE)


@pytest.mark.parametrize("told", [{}, {"temperature": None}, {"temperature": "hot", "top_p": True, "top_k": [1]}])
def test_where_they_say_nothing(told: Any) -> None:
    assert from_generation_config(told) == Sampling(temperature=TEMPERATURE) == from_gguf({})


def test_what_they_only_say_in_words() -> None:
    assert from_gguf({"general.basename": "SmolLM2"}) == Sampling(temperature=0.2, top_p=0.9)
    assert from_gguf({"general.basename": "smollm2", "general.sampling.temp": 0.5}) == Sampling(0.5, top_p=0.9)


def test_advice_that_cannot_be_followed_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"generation_config\.json: top_p must be"):
        from_generation_config({"top_p": 3})
    with pytest.raises(ModelError, match=r"the GGUF file: top_k must be a whole number.*, not 0\.5"):
        from_gguf({"general.sampling.top_k": 0.5})
