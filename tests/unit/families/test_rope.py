"""Frequencies and scales against transformers 5.23 in float32 (heads of 16, base 10000), and the keys that are read.

The numbers are one over `ROPE_INIT_FUNCTIONS[type](config)`; those of "default" and "linear" are plain powers of ten.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlxrun.families.config import Config
from mlxrun.families.rope import rope_of, rope_parameters
from mlxrun.spec import ModelError, Rope

HEAD = 16
TENS = [10.0 ** (i / 2) for i in range(8)]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
SHORT = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]
LONGROPE = {"short_factor": SHORT, "long_factor": [2.0] * 8, "original_max_position_embeddings": 128}
YARN_TAIL = [126.491096, 400.0, 1264.91101, 3999.99976, 12649.1094]

SCHEMES: list[tuple[dict[str, Any], list[float], float]] = [
    ({"rope_type": "default"}, TENS, 1.0),
    ({"rope_type": "linear", "factor": 8.0}, [8 * w for w in TENS], 1.0),
    (LLAMA3, [1.0, 3.1622777, 10.0, 54.0637627, 800.0, 2529.82202, 7999.99951, 25298.2188], 1.0),
    (YARN, [1.0, 4.21637058, 20.0000019, *YARN_TAIL], 1.13862943611),
    ({**YARN, "truncate": False}, [1.0, 4.43188763, 23.4160938, *YARN_TAIL], 1.13862943611),
    (
        {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0, "beta_fast": 16.0, "beta_slow": 2.0},
        [1.0, 4.21637058, 20.0000019, *YARN_TAIL],
        0.963474656886,
    ),
    ({**YARN, "attention_factor": 1.5}, [1.0, 4.21637058, 20.0000019, *YARN_TAIL], 1.5),
    (
        {"rope_type": "longrope", **LONGROPE},
        [1.0, 3.47850585, 12.0, 41.1096077, 140.0, 474.341614, 1600.0, 5375.87207],
        1.13389341903,
    ),
    (
        {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0},
        [2.0, 6.3245554, 20.0, 63.2455482, *[math.inf] * 4],
        1.0,
    ),
]


def config(**keys: Any) -> Config:
    return Config({"model_type": "llama", "max_position_embeddings": 512, **keys})


def newer(scheme: dict[str, Any]) -> Config:
    return config(rope_parameters={"rope_theta": 10000.0, **scheme})


@pytest.mark.parametrize(("scheme", "freqs", "scale"), SCHEMES)
def test_each_scheme_has_the_reference_frequencies(scheme: dict[str, Any], freqs: list[float], scale: float) -> None:
    rope = rope_of(newer(scheme), HEAD)
    assert rope.dims == HEAD
    assert rope.freqs == pytest.approx(freqs, rel=1e-6)
    assert rope.scale == pytest.approx(scale, rel=1e-9)


@pytest.mark.parametrize("spelling", ["rope_type", "type"])
@pytest.mark.parametrize(("scheme", "freqs", "scale"), SCHEMES)
def test_the_older_spelling_says_the_same(
    scheme: dict[str, Any], freqs: list[float], scale: float, spelling: str
) -> None:
    older = dict(scheme)
    kind = older.pop("rope_type")
    old = config(rope_theta=10000.0, rope_scaling={spelling: kind, **older})
    assert rope_of(old, HEAD) == rope_of(newer(scheme), HEAD)


def test_dynamic_keeps_the_plain_base_until_the_trained_length() -> None:
    rope = rope_of(newer({"rope_type": "dynamic", "factor": 4.0}), HEAD)
    assert rope.freqs == pytest.approx(TENS)
    assert rope.original == 512
    reference = [1.0, 4.56178427, 20.8098774, 94.9301758, 433.050995, 1975.48535, 9011.73828, 41109.6094]
    assert rope.long_freqs == pytest.approx(reference, rel=1e-6)  # at 4 * 512 positions


def test_longrope_has_frequencies_and_a_scale_for_long_sessions() -> None:
    rope = rope_of(newer({"rope_type": "longrope", **LONGROPE, "short_mscale": 1.2, "long_mscale": 1.3}), HEAD)
    assert rope.long_freqs == pytest.approx([2 * w for w in TENS])
    assert (rope.original, rope.scale, rope.long_scale) == (128, 1.2, 1.3)


def test_the_trained_length_outside_counts_more() -> None:
    outside = config(
        original_max_position_embeddings=256, rope_scaling={"type": "su", **LONGROPE, "rope_theta": 10000.0}
    )
    assert rope_of(outside, HEAD).original == 256


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_parameters": {"rope_theta": 10.0, "partial_rotary_factor": 0.5}},
        {"rope_theta": 10.0, "partial_rotary_factor": 0.5},
        {"rotary_emb_base": 10.0, "rotary_pct": 0.5},
    ],
)
def test_part_of_a_head_turns_however_it_is_spelled(keys: dict[str, Any]) -> None:
    assert rope_of(config(**keys), HEAD) == Rope(8, (1.0, 10**0.25, 10**0.5, 10**0.75), base=10.0)


def test_what_the_family_assumes_stands_only_where_the_file_is_silent() -> None:
    assert rope_of(config(), HEAD, base=100.0, partial=0.25) == Rope(4, (1.0, 10.0), base=100.0)
    assert rope_of(config(partial_rotary_factor=0.5), HEAD, partial=None).dims == HEAD


def test_layer_types_have_ropes_of_their_own() -> None:
    nested = {"full_attention": {"rope_theta": 100.0}, "sliding_attention": {"rope_theta": 10.0}}
    c = config(rope_parameters=nested)
    assert rope_of(c, 4, "full_attention").freqs == (1.0, 10.0)
    assert rope_of(c, 4, "sliding_attention").base == 10.0
    with pytest.raises(ModelError, match="no entry for chunked_attention"):
        rope_of(c, 4, "chunked_attention")


def test_a_local_base_leaves_the_scaling_to_the_others() -> None:
    c = config(rope_theta=1e6, rope_local_base_freq=100.0, rope_scaling={"rope_type": "linear", "factor": 8.0})
    local = rope_parameters(c, "sliding_attention", base_key="rope_local_base_freq", scaled=False)
    assert local == {"rope_theta": 100.0}
    assert rope_parameters(c, "full_attention")["factor"] == 8.0


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 32}, "does not use beta_fast"),
        ({"rope_type": "spiral"}, "rope type 'spiral' is not known"),
        ({"rope_type": "linear"}, "factor is missing"),
        ({"rope_type": "longrope", **LONGROPE, "short_factor": [1.0]}, "short_factor must be a list of 8 numbers"),
        ({"rope_theta": "big"}, "rope_theta must be a number"),
        ({"rope_theta": -1.0}, "rope_theta must be a number above 1"),
        ({**YARN, "factor": 0}, "factor must be a number above 0"),
        ({**YARN, "truncate": "no"}, "truncate must be true or false"),
        ({**LLAMA3, "low_freq_factor": 4.0}, "low_freq_factor must be below"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor must be"),
        ({"partial_rotary_factor": 0.2}, "rotate 3 of 16"),
    ],
)
def test_what_cannot_be_meant_is_told(scheme: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        rope_of(newer(scheme), HEAD)


def test_an_unused_rope_key_can_be_waived() -> None:
    c = Config({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 32}}, waive=frozenset({"beta_fast"}))
    assert rope_of(c, 4).freqs == (2.0, 200.0)
