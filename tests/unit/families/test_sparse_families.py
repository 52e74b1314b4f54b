"""Families with experts and ordinary attention: routers, which layers have experts, what is special to each."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.spec import Attention, Dense, ModelError, MoE, Norm, Router, Temperature
from tests.unit.families.published import GLM4_MOE, GPT_OSS, LAGUNA, QWEN3_MOE

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "vocab_size": 100,
}


def layers(config: dict[str, Any]) -> list[tuple[Attention, Any]]:
    found = [(layer.mixer, layer.ffn) for layer in resolve(config).decoder.layers]
    assert all(isinstance(mixer, Attention) for mixer, _ in found)
    return found  # type: ignore[return-value]  # just asserted


# ---- Mixtral, Phi-3.5-MoE, OLMoE ----------------------------------------------------------------


def test_mixtral() -> None:
    mixer, experts = layers({**SMALL, "model_type": "mixtral", "router_jitter_noise": 0.1, "sliding_window": None})[0]
    assert experts == MoE(8, 96, Router(2, renorm=True))
    assert (mixer.window, mixer.qkv_bias) == (None, False)
    assert layers({**SMALL, "model_type": "mixtral", "sliding_window": 8})[3][0].window == 8


def test_phi_moe() -> None:
    config = {**SMALL, "model_type": "phimoe", "attention_bias": True, "input_jitter_noise": 0.01}
    d = resolve({**config, "lm_head_bias": True, "router_jitter_noise": 0.02}).decoder
    mixer, experts = d.layers[0].mixer, d.layers[0].ffn
    assert isinstance(mixer, Attention)
    assert experts == MoE(8, 96, Router(2, "sparsemixer", jitter=0.02))
    assert (mixer.qkv_bias, mixer.out_bias, d.head_bias) == (True, True, True)
    assert d.norm == Norm(1e-5, "layer", bias=True)


def test_olmoe_keeps_the_softmaxs_weights() -> None:
    mixer, experts = layers({**SMALL, "model_type": "olmoe", "clip_qkv": 8.0, "norm_topk_prob": False})[0]
    assert experts == MoE(8, 96, Router(2))
    assert (mixer.qk_norm_scope, mixer.clip) == ("all", 8.0)


# ---- Qwen 3 -------------------------------------------------------------------------------------


def test_qwen3_moe_as_published() -> None:
    found = layers(QWEN3_MOE)
    assert {experts for _, experts in found} == {MoE(128, 768, Router(8, renorm=True))}
    assert {(m.window, m.qk_norm, m.qkv_bias) for m, _ in found} == {(None, Norm(1e-6), False)}


@pytest.mark.parametrize(
    ("keys", "dense"),
    [({"mlp_only_layers": [0, 2]}, {0, 2}), ({"decoder_sparse_step": 2}, {0, 2}), ({"decoder_sparse_step": 9}, None)],
)
def test_qwen3_moe_layers_without_experts(keys: dict[str, Any], dense: set[int] | None) -> None:
    found = layers({**QWEN3_MOE, "num_hidden_layers": 4, **keys})
    assert {i for i, (_, ffn) in enumerate(found) if ffn == Dense(6144)} == ({0, 1, 2, 3} if dense is None else dense)


def test_qwen3_moe_slides_in_every_layer_if_told() -> None:
    found = layers({**QWEN3_MOE, "use_sliding_window": True, "sliding_window": 16})
    assert {m.window for m, _ in found} == {16}


# ---- GLM 4.5 ------------------------------------------------------------------------------------


def test_glm4_moe_as_published() -> None:
    found = layers(GLM4_MOE)
    router = Router(8, "sigmoid", renorm=True, select_bias=True)
    assert found[0][1] == Dense(10944)
    assert {ffn for _, ffn in found[1:]} == {MoE(128, 1408, router, shared=Dense(1408))}
    mixer = found[0][0]
    assert mixer.rope is not None
    assert (mixer.rope.dims, mixer.rope.interleaved, mixer.qk_norm) == (64, False, None)
    assert (mixer.qkv_bias, mixer.out_bias) == (True, False)
    assert layers({**GLM4_MOE, "use_qk_norm": True})[0][0].qk_norm == Norm(1e-5)


# ---- GPT-OSS ------------------------------------------------------------------------------------


def test_gpt_oss_as_published() -> None:
    found = layers(GPT_OSS)
    assert [m.window for m, _ in found] == [128, None] * 12
    assert all(m.sinks and m.qkv_bias and m.out_bias for m, _ in found)
    router = Router(4, "softmax_topk", bias=True)
    assert {ffn for _, ffn in found} == {MoE(32, 2880, router, act="clamped_swiglu", bias=True)}
    assert resolve(GPT_OSS).decoder.context == 131072


def test_gpt_oss_alternates_where_the_file_is_silent() -> None:
    silent = {key: value for key, value in GPT_OSS.items() if key != "layer_types"}
    assert resolve(silent).decoder == resolve(GPT_OSS).decoder


def test_gpt_oss_yarn_is_not_rounded_to_whole_pairs() -> None:
    rounded = {**GPT_OSS, "rope_scaling": {**GPT_OSS["rope_scaling"], "truncate": True}}
    assert layers(GPT_OSS)[0][0].rope != layers(rounded)[0][0].rope


@pytest.mark.parametrize(("key", "value"), [("swiglu_limit", 10.0), ("swiglu_alpha", 1.0), ("hidden_act", "gelu")])
def test_gpt_oss_with_another_clamped_unit_is_refused(key: str, value: object) -> None:
    with pytest.raises(ModelError, match=key):
        resolve({**GPT_OSS, key: value})


# ---- AFMoE --------------------------------------------------------------------------------------

AFMOE = {
    **{key: value for key, value in SMALL.items() if key != "num_local_experts"},
    "model_type": "afmoe",
    "global_attn_every_n_layers": 2,
    "head_dim": 16,
    "moe_intermediate_size": 32,
    "mup_enabled": True,
    "n_group": 1,
    "num_dense_layers": 1,
    "num_experts": 8,
    "num_shared_experts": 2,
    "route_norm": True,
    "route_scale": 2.5,
    "score_func": "sigmoid",
    "sliding_window": 16,
    "topk_group": 1,
}


def test_afmoe() -> None:
    d = resolve(AFMOE).decoder
    found = layers(AFMOE)
    assert [m.window for m, _ in found] == [16, None] * 2
    assert [m.rope is not None for m, _ in found] == [True, False] * 2
    assert {m.gate for m, _ in found} == {"elementwise"}
    router = Router(2, "sigmoid", renorm=True, scale=2.5, select_bias=True)
    assert [ffn for _, ffn in found] == [Dense(96)] + [MoE(8, 32, router, shared=Dense(64))] * 3
    layer = d.layers[0]
    assert layer.mixer_norm == layer.mixer_post == layer.ffn_norm == layer.ffn_post == Norm(1e-5)
    assert d.embed_scale == 8.0
    assert resolve({**AFMOE, "mup_enabled": False}).decoder.embed_scale == 1.0


def test_afmoe_with_softmax_scores_is_refused() -> None:
    with pytest.raises(ModelError, match="score_func"):
        resolve({**AFMOE, "score_func": "softmax"})


# ---- Laguna -------------------------------------------------------------------------------------


def test_laguna_as_published() -> None:
    found = layers(LAGUNA)
    assert [m.heads for m, _ in found[:5]] == [48, 64, 64, 64, 48]
    assert [m.window for m, _ in found[:5]] == [None, 512, 512, 512, None]
    ropes = [m.rope for m, _ in found[:2]]
    assert [(r.dims, r.base, r.scaling) for r in ropes if r] == [(64, 500000.0, "yarn"), (128, 10000.0, "default")]
    assert {m.gate for m, _ in found} == {"head_softplus"}
    router = Router(8, "sigmoid", renorm=True, scale=2.5, select_bias=True)
    assert [ffn for _, ffn in found] == [Dense(8192)] + [MoE(256, 512, router, shared=Dense(512))] * 39


def test_laguna_says_in_two_ways_which_layers_have_experts() -> None:
    older = {key: value for key, value in LAGUNA.items() if key != "mlp_layer_types"}
    assert resolve(older).decoder == resolve(LAGUNA).decoder
    neither = {key: value for key, value in older.items() if key not in ("mlp_only_layers", "decoder_sparse_step")}
    assert resolve(neither).decoder == resolve(LAGUNA).decoder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gating", "per-element"),
        ("moe_router_logit_softcapping", 30.0),
        ("moe_apply_router_weight_on_input", True),
        ("num_attention_heads_per_layer", [48] * 39),
        ("num_attention_heads_per_layer", [48] * 39 + [50]),
        ("mlp_layer_types", ["dense"]),
    ],
)
def test_laguna_with_what_we_do_not_have_is_refused(key: str, value: object) -> None:
    with pytest.raises(ModelError, match=key):
        resolve({**LAGUNA, key: value})


# ---- Llama 4 ------------------------------------------------------------------------------------

LLAMA4 = {
    **SMALL,
    "model_type": "llama4_text",
    "attention_chunk_size": 16,
    "attn_scale": 0.1,
    "attn_temperature_tuning": 4,
    "floor_scale": 8192,
    "for_llm_compressor": False,
    "head_dim": 16,
    "interleave_moe_layer_step": 1,
    "intermediate_size_mlp": 192,
    "no_rope_layers": [],
    "num_experts_per_tok": 1,
    "rope_scaling": None,
    "router_jitter_noise": 0.0,
    "use_qk_norm": True,
}


def test_scout_has_experts_everywhere_and_every_fourth_layer_has_no_positions() -> None:
    found = layers(LLAMA4)
    assert [m.rope is not None for m, _ in found] == [True, True, True, False]
    assert [m.chunk for m, _ in found] == [16, 16, 16, None]
    assert [m.qk_norm for m, _ in found] == [Norm(1e-5, weight=False)] * 3 + [None]
    assert [m.temperature for m, _ in found] == [None] * 3 + [Temperature(0.1, 8192.0, shift=1)]
    assert [m.qk_norm_after_rope for m, _ in found] == [True] * 3 + [False]
    assert {m.rope.interleaved for m, _ in found if m.rope} == {True}
    assert {ffn for _, ffn in found} == {MoE(8, 96, Router(1, "sigmoid"), shared=Dense(96), scale_input=True)}


def test_maverick_has_experts_in_every_second_layer() -> None:
    found = layers({**LLAMA4, "interleave_moe_layer_step": 2, "use_qk_norm": False})
    assert [isinstance(ffn, MoE) for _, ffn in found] == [False, True] * 2
    assert found[0][1] == Dense(192)
    assert {m.qk_norm for m, _ in found} == {None}


def test_llama_4_with_its_layers_listed() -> None:
    found = layers({**LLAMA4, "moe_layers": [3], "no_rope_layers": [0, 1, 1, 1], "attn_temperature_tuning": False})
    assert [isinstance(ffn, MoE) for _, ffn in found] == [False, False, False, True]
    assert [m.rope is None for m, _ in found] == [True, False, False, False]
    assert {m.temperature for m, _ in found} == {None}


def test_llama_4_with_a_short_list_is_refused() -> None:
    with pytest.raises(ModelError, match="no_rope_layers"):
        resolve({**LLAMA4, "no_rope_layers": [1]})
