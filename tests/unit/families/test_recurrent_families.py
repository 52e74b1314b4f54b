"""Families with recurrent layers: which layer is of which kind, step limits, sizes that must agree."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.families.config import Config
from mlxrun.families.recurrent import ENDLESS, kinds_of, time_steps
from mlxrun.spec import Attention, Dense, Mamba1, Mamba2, ModelError, MoE, Norm, Router

KNOWN = ("linear_attention", "full_attention")
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}


# ---- shared -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["layer_types", "layers_block_type"])
def test_both_generations_of_layer_names(key: str) -> None:
    older = Config({key: ["mamba", "attention", "linear_attention", "full_attention"]})
    assert kinds_of(older, 4, None, KNOWN) == (*KNOWN, *KNOWN)


@pytest.mark.parametrize("written", [["mamba"], "mamba", [], ["mamba", "sliding_attention"], [["mamba"], "mamba"]])
def test_a_strange_list_of_layers_is_one_sentence(written: object) -> None:
    with pytest.raises(ModelError, match=r"layer_types must list|the layer type"):
        kinds_of(Config({"layer_types": written}), 2, lambda i: "linear_attention", KNOWN)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (None, (0.0, math.inf)),
        ([0.001, 0.1], (0.001, 0.1)),
        ([0.0, {"__float__": "Infinity"}], (0.0, math.inf)),
        ([0.0, math.inf], (0.0, math.inf)),
    ],
)
def test_step_limits(written: object, wanted: tuple[float, float]) -> None:
    assert time_steps(Config({"time_step_limit": written})) == wanted


@pytest.mark.parametrize("written", [0.1, [0.1], ["a", 1.0], [None, 1.0], [{"__int__": 1}, 2.0]])
def test_strange_step_limits_are_one_sentence(written: object) -> None:
    with pytest.raises(ModelError, match="time_step_limit must be two numbers"):
        time_steps(Config({"time_step_limit": written}))


# ---- Mamba --------------------------------------------------------------------------------------

MAMBA = {
    "model_type": "mamba",
    "hidden_size": 64,
    "layer_norm_epsilon": 1e-5,
    "num_hidden_layers": 3,
    "state_size": 16,
    "time_step_rank": "auto",
    "vocab_size": 100,
}


def test_mamba_is_tied_and_endless() -> None:
    d = resolve(MAMBA).decoder
    assert {layer.mixer for layer in d.layers} == {Mamba1(128, 16, 4, 4)}
    assert {(layer.ffn, layer.mixer_norm) for layer in d.layers} == {(None, Norm(1e-5))}
    assert (d.tied, d.context) == (True, ENDLESS)


def test_falcon_mamba_norms_without_a_weight() -> None:
    d = resolve({**MAMBA, "model_type": "falcon_mamba", "mixer_rms_eps": 1e-4, "time_step_rank": 8}).decoder
    assert d.layers[0].mixer == Mamba1(128, 16, 8, 4, Norm(1e-4, weight=False))


def test_mamba_2_norms_group_by_group() -> None:
    config = {**MAMBA, "model_type": "mamba2", "num_heads": 8, "head_dim": 16, "n_groups": 2}
    d = resolve(config).decoder
    assert d.layers[0].mixer == Mamba2(8, 16, 2, 16, 4, Norm(1e-5), norm_groups=2)
    assert not d.tied
    with pytest.raises(ModelError, match="8 num_heads of head_dim 8"):
        resolve({**config, "head_dim": 8})


# ---- Jamba --------------------------------------------------------------------------------------

JAMBA = {
    **SMALL,
    "model_type": "jamba",
    "attn_layer_offset": 2,
    "attn_layer_period": 4,
    "expert_layer_offset": 1,
    "expert_layer_period": 2,
    "mamba_d_conv": 4,
    "mamba_d_state": 16,
    "mamba_dt_rank": "auto",
    "mamba_expand": 2,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 8,
    "rms_norm_eps": 1e-6,
}


def test_jamba() -> None:
    layers = resolve(JAMBA).decoder.layers
    assert [isinstance(layer.mixer, Attention) for layer in layers] == [False, False, True, False] * 2
    assert {layer.ffn for layer in layers[1::2]} == {MoE(4, 96, Router(2))}
    assert {layer.ffn for layer in layers[::2]} == {Dense(96)}
    assert layers[0].mixer == Mamba1(128, 16, 4, 4, Norm(1e-6))
    attention = layers[2].mixer
    assert isinstance(attention, Attention)
    assert attention.rope is None


def test_jamba_with_one_expert_is_dense() -> None:
    layers = resolve({**JAMBA, "num_experts": 1}).decoder.layers
    assert {layer.ffn for layer in layers} == {Dense(96)}


def test_jamba_without_inner_norms() -> None:
    mixer = resolve({**JAMBA, "mamba_inner_layernorms": False}).decoder.layers[0].mixer
    assert isinstance(mixer, Mamba1)
    assert mixer.norm is None


def test_an_offset_beyond_its_period_is_one_sentence() -> None:
    with pytest.raises(ModelError, match="attn_layer_offset 4 must be less than attn_layer_period 4"):
        resolve({**JAMBA, "attn_layer_offset": 4})


# ---- Granite 4 ----------------------------------------------------------------------------------

GRANITE = {
    **SMALL,
    "model_type": "granitemoehybrid",
    "attention_multiplier": 0.25,
    "embedding_multiplier": 12,
    "init_method": "mup",
    "layer_types": ["mamba", "mamba", "attention"],
    "logits_scaling": 4,
    "mamba_chunk_size": 256,
    "mamba_d_conv": 4,
    "mamba_d_head": "auto",
    "mamba_d_state": 32,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 8,
    "normalization_function": "rmsnorm",
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_local_experts": 8,
    "position_embedding_type": "nope",
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 10000,
    "shared_intermediate_size": 48,
}


def test_granite_hybrid() -> None:
    d = resolve(GRANITE).decoder
    assert [type(layer.mixer) for layer in d.layers] == [Mamba2, Mamba2, Attention]
    assert d.layers[0].mixer == Mamba2(8, 16, 1, 32, 4, Norm(1e-5))
    attention = d.layers[2].mixer
    assert isinstance(attention, Attention)
    assert (attention.rope, attention.scale) == (None, 0.25)
    assert {layer.ffn for layer in d.layers} == {MoE(8, 96, Router(2, "softmax_topk"), shared=Dense(48))}
    assert {layer.residual for layer in d.layers} == {0.22}
    assert (d.embed_scale, d.logit_scale) == (12.0, 0.25)


def test_granite_without_experts_has_only_the_shared_network() -> None:
    d = resolve({**GRANITE, "num_local_experts": 0, "position_embedding_type": "rope"}).decoder
    assert {layer.ffn for layer in d.layers} == {Dense(48)}
    attention = d.layers[2].mixer
    assert isinstance(attention, Attention)
    assert attention.rope is not None


def test_granite_of_attention_alone_asks_nothing_of_mamba() -> None:
    d = resolve({**GRANITE, "layer_types": ["attention"] * 3, "mamba_n_heads": 7}).decoder
    assert {type(layer.mixer) for layer in d.layers} == {Attention}


def test_granite_heads_that_do_not_fill_the_width_are_one_sentence() -> None:
    with pytest.raises(ModelError, match="8 mamba_n_heads of 15"):
        resolve({**GRANITE, "mamba_d_head": 15})


# ---- Nemotron-H ---------------------------------------------------------------------------------

NEMOTRON = {
    **SMALL,
    "model_type": "nemotron_h",
    "chunk_size": 128,
    "conv_kernel": 4,
    "head_dim": 16,
    "hybrid_override_pattern": "MEM*-",
    "layer_norm_epsilon": 1e-5,
    "mamba_head_dim": 8,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 16,
    "mamba_proj_bias": False,
    "mlp_hidden_act": "relu2",
    "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 40,
    "n_group": 1,
    "n_groups": 2,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "norm_eps": 1e-5,
    "norm_topk_prob": True,
    "num_experts_per_tok": 3,
    "num_hidden_layers": 5,
    "partial_rotary_factor": 1.0,
    "residual_in_fp32": False,
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "ssm_state_size": 32,
    "time_step_floor": 0.0001,
    "time_step_limit": [0.0, math.inf],
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "topk_group": 1,
    "use_bias": False,
    "use_conv_bias": True,
}


def test_nemotron_h_has_one_block_a_layer() -> None:
    layers = resolve(NEMOTRON).decoder.layers
    norm = Norm(1e-5)
    assert layers[0].mixer == Mamba2(16, 8, 2, 32, 4, norm, norm_groups=2, dt_min=0.001)
    router = Router(3, "sigmoid", renorm=True, scale=2.5, select_bias=True)
    shared = Dense(40, "relu2", gated=False)
    assert layers[1].ffn == MoE(8, 32, router, act="relu2", gated=False, shared=shared)
    assert layers[3].mixer == Attention(4, 2, 16, 0.25)
    assert layers[4].ffn == Dense(96, "relu2", gated=False)
    assert [(layer.mixer is None, layer.ffn is None) for layer in layers] == [
        (False, True),
        (True, False),
        (False, True),
        (False, True),
        (True, False),
    ]
    assert [layer.mixer_norm or layer.ffn_norm for layer in layers] == [norm] * 5


@pytest.mark.parametrize(
    "types",
    [
        ["mamba", "moe", "mamba", "attention", "mlp"],
        ["linear_attention", "moe", "linear_attention", "full_attention", "mlp"],
    ],
)
def test_nemotron_h_listed_is_nemotron_h_as_a_pattern(types: list[str]) -> None:
    listed = {
        key: value for key, value in NEMOTRON.items() if key not in ("hybrid_override_pattern", "num_hidden_layers")
    }
    assert resolve({**listed, "layers_block_type": types}) == resolve(NEMOTRON)


def test_nemotron_3_experts_in_a_narrower_space() -> None:
    experts = resolve({**NEMOTRON, "moe_latent_size": 24}).decoder.layers[1].ffn
    assert isinstance(experts, MoE)
    assert experts.latent == 24
    with pytest.raises(ModelError, match="mlp_bias beside moe_latent_size"):
        resolve({**NEMOTRON, "moe_latent_size": 24, "mlp_bias": True})


def test_nemotron_h_head_size_under_its_older_name() -> None:
    older = {**NEMOTRON, "attention_head_dim": 32}
    del older["head_dim"]
    mixer = resolve(older).decoder.layers[3].mixer
    assert isinstance(mixer, Attention)
    assert mixer.head_dim == 32


@pytest.mark.parametrize("pattern", ["", "MX", 5, ["M", "Q"]])
def test_a_strange_pattern_is_one_sentence(pattern: object) -> None:
    with pytest.raises(ModelError, match="hybrid_override_pattern"):
        resolve({**NEMOTRON, "hybrid_override_pattern": pattern})
