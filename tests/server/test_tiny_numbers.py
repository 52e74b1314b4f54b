"""Numbers of sampling that are allowed and hardly any: what is computed with them is a number still."""

from __future__ import annotations

import pytest

from .process import Serving

NAMES = ("temperature", "top_p", "min_p", "typical_p", "top_n_sigma", "xtc_threshold", "dry_multiplier", "mirostat_tau")


@pytest.mark.parametrize("value", [5e-324, 1e-45, 1e-30])
@pytest.mark.parametrize("name", NAMES)
def test_next_to_nothing_is_computed_with(name: str, value: float, tiny: Serving) -> None:
    more = {"xtc_probability": 1} if name == "xtc_threshold" else {}
    asked = {"prompt": "abcabcabc", "max_tokens": 4, "temperature": 1, **more, name: value}
    answer = tiny.post("/v1/completions", asked)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("value", [5e-324, 1e-45, 1e-38])
def test_a_penalty_that_nothing_can_be_divided_by_is_refused(value: float, tiny: Serving) -> None:
    answer = tiny.post("/v1/completions", {"prompt": "abcabcabc", "max_tokens": 4, "repetition_penalty": value})
    assert answer.status_code == 400
    assert "repetition_penalty must be a number from 1e-30 to 10" in answer.json()["error"]["message"]


def test_the_smallest_that_is_taken_is_computed_with(tiny: Serving) -> None:
    answer = tiny.post("/v1/completions", {"prompt": "abcabcabc", "max_tokens": 4, "repetition_penalty": 1e-30})
    assert answer.status_code == 200, answer.text
