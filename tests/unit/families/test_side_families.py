"""ERNIE 4.5, StarCoder 2 and Falcon H1: what is special to each, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.families.config import Dialect
from mlxrun.spec import Attention, Mamba2, ModelError, MoE, ScaledDense, SideBySide
from tests.golden.checkpoint import reference


def config(name: str, **changes: Any) -> dict[str, Any]:
    return {**reference(name).config, **changes}


def test_the_experts_of_ernie_are_chosen_by_a_bias_in_the_layers_that_have_them() -> None:
    layers = resolve(config("ernie4_5_moe", moe_layer_interval=2, moe_layer_start_index=2)).decoder.layers
    assert [isinstance(layer.ffn, MoE) for layer in layers] == [False, False, False, True]
    assert all(isinstance(layer.mixer, Attention) and layer.mixer.rope for layer in layers)
    (experts,) = (layer.ffn for layer in layers if isinstance(layer.ffn, MoE))
    assert (experts.router.score, experts.router.select_bias, experts.router.renorm) == ("softmax", True, True)


def test_every_layer_of_star_coder_slides_where_a_window_is_written() -> None:
    written = [layer.mixer for layer in resolve(config("starcoder2")).decoder.layers]
    assert {m.window for m in written if isinstance(m, Attention)} == {8}
    silent = [layer.mixer for layer in resolve(config("starcoder2", sliding_window=None)).decoder.layers]
    assert {m.window for m in silent if isinstance(m, Attention)} == {None}


def test_multipliers_of_falcon_h1() -> None:
    decoder = resolve(config("falcon_h1")).decoder
    layer = decoder.layers[0]
    assert isinstance(layer.mixer, SideBySide)
    assert layer.mixer.attention.scale == pytest.approx(0.6 * 16**-0.5)
    assert isinstance(layer.ffn, ScaledDense)
    assert (layer.ffn.gate, layer.ffn.out) == (0.7, 1.4)
    assert isinstance(layer.mixer.mamba, Mamba2)
    assert layer.mixer.mamba.scales == (0.9, 1.2, 0.8, 1.1, 0.7)
    assert (decoder.embed_scale, decoder.logit_scale) == (1.5, 0.75)


@pytest.mark.parametrize(
    ("name", "changes", "dialect", "said"),
    [
        ("ernie4_5_moe", {}, "mlx", "lost the biases that choose its experts"),
        ("ernie4_5_moe", {"moe_gate": "random"}, "hf", "moe_gate 'random' is not supported"),
        ("ernie4_5_moe", {"moe_k": 9}, "hf", "more than the 8 experts"),
        ("falcon_h1", {"mlp_bias": True}, "mlx", "lost their multipliers"),
        ("falcon_h1", {"ssm_multipliers": [1.0] * 4}, "hf", "ssm_multipliers must be a list of 5 numbers"),
        ("falcon_h1", {"mlp_multipliers": [1.0, "x"]}, "hf", "mlp_multipliers: 1 must be a number"),
        ("falcon_h1", {"mamba_n_heads": 5}, "hf", "do not make mamba_d_ssm 96"),
        ("starcoder2", {"norm_type": "rms_norm"}, "hf", "norm_type 'rms_norm' is not supported"),
    ],
)
def test_what_is_refused(name: str, changes: dict[str, Any], dialect: Dialect, said: str) -> None:
    with pytest.raises(ModelError, match=said) as error:
        resolve(config(name, **changes), dialect)
    assert "\n" not in str(error.value)
