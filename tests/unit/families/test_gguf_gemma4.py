"""Gemma 4's metadata alone: the 31B's widths, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mlxrun.families.gguf import resolve_gguf
from mlxrun.spec import Attention, ModelError

Config = dict[str, Any]
SLIDES = [True] * 5 + [False]
KEYS: Config = {
    "block_count": 60,
    "context_length": 262144,
    "embedding_length": 5376,
    "feed_forward_length": 21504,
    "embedding_length_per_layer_input": 0,
    "attention.head_count": 32,
    "attention.head_count_kv": [16 if slides else 4 for slides in SLIDES * 10],
    "attention.key_length": 512,
    "attention.value_length": 512,
    "attention.key_length_swa": 256,
    "attention.value_length_swa": 256,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.shared_kv_layers": 0,
    "attention.sliding_window": 1024,
    "attention.sliding_window_pattern": SLIDES * 10,
    "final_logit_softcapping": 30.0,
    "rope.freq_base": 1000000.0,
    "rope.freq_base_swa": 10000.0,
    "rope.dimension_count": 512,
    "rope.dimension_count_swa": 256,
}
TURNS = {"rope_freqs.weight": (1.0,) * 64 + (1e30,) * 192}


def resolved(changed: Config | None = None, factors: Any = TURNS) -> Any:
    keys = {**KEYS, **(changed or {})}
    told = {"general.architecture": "gemma4", **{f"gemma4.{key}": value for key, value in keys.items()}}
    return resolve_gguf(told, {"token_embd.weight": (262144, 5376)}, factors)


def test_full_layers_have_fewer_and_wider_keys() -> None:
    first, *_, last = (layer.mixer for layer in resolved().decoder.layers)
    assert isinstance(first, Attention)
    assert isinstance(last, Attention)
    assert (first.head_dim, first.kv_heads, first.window, first.k_is_v) == (256, 16, 1024, False)
    assert (last.head_dim, last.kv_heads, last.window, last.k_is_v) == (512, 4, None, True)
    assert last.rope is not None
    assert sum(freq < float("inf") for freq in last.rope.freqs) == 64


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"attention.sliding_window_pattern": SLIDES}, "must say of each layer whether it slides"),
        ({"attention.head_count_kv": [4, 4]}, "one for each of the 60 layers"),
        ({"attention.shared_kv_layers": 60}, "cannot be 60"),
        ({"feed_forward_length": [1, 2] * 30}, "differs where a Gemma 4 does not"),
        ({"attention.value_length": 8}, "another size than keys"),
        ({"rope.dimension_count": 128}, "otherwise than by rope_freqs"),
    ],
)
def test_what_is_refused(changed: Config, said: str) -> None:
    with pytest.raises(ModelError, match=re.escape(said)):
        resolved(changed)


def test_factors_are_ones_and_then_very_large_ones() -> None:
    for factors in ((1.0, 1e30), (1.0,) * 64 + (8.0,) * 192, (1e30,) * 192 + (1.0,) * 64):
        with pytest.raises(ModelError, match="ones and then very large ones"):
            resolved(factors={"rope_freqs.weight": factors})
