"""The table of cases: enough of them, every family, and nothing that a short prompt would leave untested."""

from __future__ import annotations

import numpy as np
import pytest

from .cases import CASES
from .checkpoint import FOLDER, reference
from .draw import SELECT_BIAS
from .families import FAMILIES, cases_of

BIASED = (  # their routers add a bias for choosing only
    *("deepseek_v3", "glm4_moe", "nemotron_h", "afmoe"),
    *("ernie4_5_moe", "dots1", "minimax_m2", "solar_open", "lfm2_moe"),
    *("kimi_linear", "bailing_hybrid"),
)

FIRST_OF_HEAD = [0.062440600, -0.085207976]  # llama's lm_head.weight; another machine must draw the same


def test_there_are_enough_and_every_family_has_one() -> None:
    assert len(CASES) >= 55
    listed = [name for family in FAMILIES for name in cases_of(family)]
    assert sorted(listed) == sorted(CASES)
    for family, (model_type, _) in FAMILIES.items():
        types = {CASES[name].model_type for name in cases_of(family)}
        assert types == {"deepseek_v3" if model_type == "kimi_k2" else model_type}, family


def test_every_case_has_a_small_reference_and_nothing_else_is_stored() -> None:
    wanted = {f"{name}.{ending}" for name in CASES for ending in ("json", "npy")}
    assert {path.name for path in FOLDER.iterdir()} == wanted
    assert max(path.stat().st_size for path in FOLDER.iterdir()) < 32_000


@pytest.mark.parametrize("name", CASES)
def test_prompts_reach_past_windows_chunks_and_choices(name: str) -> None:
    config, tokens = reference(name).config, len(reference(name).prompt)
    for key in ("sliding_window", "attention_chunk_size", "index_topk", "local_attention"):
        if name != "glm_moe_dsa_dense" and config.get(key):
            assert tokens > 2 * config[key], key
    assert ("long" in name.split("_")) == (tokens > 64)


@pytest.mark.parametrize("model_type", BIASED)
def test_selection_biases_below_and_above_zero(model_type: str) -> None:
    assert {c.select_bias for c in CASES.values() if c.model_type == model_type} >= {"positive", "negative"}


@pytest.mark.parametrize("name", ["deepseek_v3_negative", "afmoe_negative", "deepseek_v3"])
def test_drawn_biases_lie_where_they_should(name: str) -> None:
    low, high = SELECT_BIAS[CASES[name].select_bias]
    drawn = [
        v for n, v in reference(name).checkpoint().weights.items() if n.endswith(("correction_bias", "expert_bias"))
    ]
    assert drawn
    assert all(low <= bias.min() and bias.max() <= high for bias in drawn)


def test_drawing_again_gives_the_same_and_another_name_another() -> None:
    first, again = (reference("llama").checkpoint().weights for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(
        first["model.layers.0.self_attn.k_proj.weight"], first["model.layers.1.self_attn.k_proj.weight"]
    )
    assert first["lm_head.weight"].ravel()[:2].tolist() == pytest.approx(FIRST_OF_HEAD, abs=1e-7)
