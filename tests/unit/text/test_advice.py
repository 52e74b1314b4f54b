"""How a model is drawn from where nobody asks for anything."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.core import Sampling
from mlxrun.spec import ModelError
from mlxrun.text.advice import TEMPERATURE, from_generation_config, from_gguf


def test_what_authors_write_down() -> None:
    told = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "max_length": 99, "do_sample": True}
    assert from_generation_config(told) == Sampling(temperature=0.6, top_p=0.95, top_k=20, min_p=0)
    metadata = {"general.sampling.temp": 0.6, "general.sampling.top_k": 20, "general.sampling.xtc_threshold": 0.1}
    assert from_gguf(metadata) == Sampling(temperature=0.6, top_k=20)


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
