"""llama.cpp's further architectures: what each one's own keys mean, and how its tensors differ from what is usual.

What llama.cpp works out for itself and its files do not say (MiniCPM 3's scales, which layers have a second norm) is
worked out here too.
"""

from __future__ import annotations

import math
from typing import Any

from . import latent, mamba
from .experts import GATES, deepseek_experts, experts
from .metadata import Architecture, Metadata, always, biases, layer_types, layers_of, query_biases, rope_config
from .metadata import longrope_config as longrope


def _exaone4(m: Metadata) -> dict[str, Any]:
    window = m.get("attention.sliding_window") or None
    slides = {"sliding_window": window, "layer_types": layer_types(m, 4)} if window else {}
    return {**rope_config(m), **slides}


def _exaone_moe(m: Metadata) -> dict[str, Any]:
    found = {**_exaone4(m), **deepseek_experts(m, 2, chosen_by_bias=True)}
    m.get("expert_shared_feed_forward_length")  # said again
    shared = found.pop("n_shared_experts")
    return {**found, "num_shared_experts": shared}


def _hunyuan_moe(m: Metadata) -> dict[str, Any]:
    m.get("expert_shared_count")  # always one, of the width below
    found = experts(m)
    return {
        **rope_config(m),
        "num_experts": found["num_experts"],
        "moe_topk": found["num_experts_per_tok"],
        "moe_intermediate_size": m["expert_feed_forward_length"],
        "intermediate_size": m["expert_shared_feed_forward_length"],
    }


def _minicpm(m: Metadata) -> dict[str, Any]:
    """Older files say no scales."""
    residual, logits = m.get("residual_scale"), m.get("logit_scale")
    return {
        **rope_config(m),
        **longrope(m),
        "scale_emb": m.get("embedding_scale", 12.0),
        "scale_depth": residual * math.sqrt(layers_of(m)) if residual else 1.4,
        "dim_model_base": m["embedding_length"] / logits if logits else 256,
    }


def _bailing(m: Metadata) -> dict[str, Any]:
    sigmoid = any(name.endswith((".exp_probs_b", ".exp_probs_b.bias")) for name in m.shapes)
    found = deepseek_experts(m, 2 if sigmoid else 1, chosen_by_bias=sigmoid)
    shared = found.pop("n_shared_experts")
    return {
        **rope_config(m),
        **found,
        "num_shared_experts": shared,
        "moe_shared_expert_intermediate_size": m.get("expert_shared_feed_forward_length"),
        "score_function": GATES[2 if sigmoid else 1],
        "moe_router_enable_expert_bias": sigmoid,
        "use_qk_norm": "blk.0.attn_q_norm.weight" in m.shapes,
        "use_qkv_bias": query_biases(m),
    }


def _deepseek(m: Metadata) -> dict[str, Any]:
    found = deepseek_experts(m, 1, chosen_by_bias=False)
    return {**rope_config(m), **found, "attention_bias": query_biases(m)}


def _seed_oss(m: Metadata) -> dict[str, Any]:
    found = {"attention_bias": query_biases(m), "attention_out_bias": "blk.0.attn_output.bias" in m.shapes}
    return {**rope_config(m), **found}


def _stablelm(m: Metadata) -> dict[str, Any]:
    """Whether branches are parallel is told by the second norm: files of serial models say otherwise."""
    m.get("use_parallel_residual")
    return {
        **rope_config(m),
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in m.shapes,
        "qk_layernorm": "blk.0.attn_q_norm.weight" in m.shapes,
        "use_qkv_bias": query_biases(m),
    }


def _command_r(m: Metadata) -> dict[str, Any]:
    norms = "blk.0.attn_q_norm.weight" in m.shapes
    found = {"logit_scale": m["logit_scale"], "use_qk_norm": norms, "attention_bias": query_biases(m)}
    return {**rope_config(m), **found}


def _ernie_moe(m: Metadata) -> dict[str, Any]:
    m.get("expert_shared_feed_forward_length")  # which converters worked out wrongly; it follows from the rest
    return {
        **rope_config(m, 500_000.0),
        **experts(m),
        "moe_intermediate_size": m["expert_feed_forward_length"],
        "moe_num_shared_experts": m.get("expert_shared_count", 0),
        "moe_layer_start_index": m.get("leading_dense_block_count", 0),
        "moe_layer_interval": m.get("interleave_moe_layer_step", 1) or 1,
        "use_bias": query_biases(m),
    }


def _granite_moe(m: Metadata) -> dict[str, Any]:
    return {**rope_config(m), **biases(m), **mamba.granite_scales(m), **experts(m)}


def _dots1(m: Metadata) -> dict[str, Any]:
    found = {"sliding_window": m.get("attention.sliding_window") or None, "attention_bias": query_biases(m)}
    return {**rope_config(m), **deepseek_experts(m, 2, chosen_by_bias=True), **found}


def _minimax(m: Metadata) -> dict[str, Any]:
    m.get("expert_feed_forward_length")  # said again
    m.get("expert_gating_func")  # a sigmoid
    return {**rope_config(m, 5e6), **experts(m)}


def _olmo(m: Metadata) -> dict[str, Any]:
    clip = m.get("attention.clamp_kqv")
    return {**rope_config(m), **({"clip_qkv": clip} if clip else {})}


FURTHER: dict[str, Architecture] = {
    "exaone": Architecture(always("exaone"), rope_config),
    "exaone4": Architecture(always("exaone4"), _exaone4),
    "exaone-moe": Architecture(always("exaone_moe"), _exaone_moe),
    "hunyuan-dense": Architecture(always("hunyuan_v1_dense"), rope_config),
    "hunyuan-moe": Architecture(always("hunyuan_v1_moe"), _hunyuan_moe),
    "minicpm": Architecture(always("minicpm"), _minicpm, interleaved=True),
    "minicpm3": Architecture(
        always("minicpm3"), latent.minicpm3, own=latent.PLACES, own_widths=True, rules=latent.whole_kv_rules
    ),
    "bitnet": Architecture(  # that of 2024, whose activation is another
        always("bitnet"),
        lambda m: {**rope_config(m), "hidden_act": "silu"},
        own={"attn_sub_norm": "mixer.out_norm", "ffn_sub_norm": "ffn.down_norm"},
    ),
    "internlm2": Architecture(
        always("internlm2"), lambda m: {**rope_config(m), "bias": query_biases(m)}, interleaved=True
    ),
    "deepseek": Architecture(always("deepseek"), _deepseek, interleaved=True),
    "bailingmoe": Architecture(always("bailing_moe"), _bailing, interleaved=True),
    "bailingmoe2": Architecture(always("bailing_moe"), _bailing),
    "seed_oss": Architecture(always("seed_oss"), _seed_oss, own={"post_attention_norm": "ffn_norm"}),
    "arcee": Architecture(always("arcee"), lambda m: {**rope_config(m), **biases(m)}, interleaved=True),
    "starcoder2": Architecture(always("starcoder2"), lambda m: {**rope_config(m), "use_bias": query_biases(m)}),
    "stablelm": Architecture(always("stablelm"), _stablelm),
    "command-r": Architecture(always("cohere"), _command_r),
    "ernie4_5": Architecture(always("ernie4_5"), lambda m: {**rope_config(m, 500_000.0), "use_bias": query_biases(m)}),
    "ernie4_5-moe": Architecture(always("ernie4_5_moe"), _ernie_moe),
    "granitemoe": Architecture(always("granitemoe"), _granite_moe, interleaved=True),
    "dots1": Architecture(always("dots1"), _dots1),
    "minimax-m2": Architecture(always("minimax_m2"), _minimax),
    "olmo": Architecture(always("olmo"), _olmo, interleaved=True),
    "nemotron": Architecture(always("nemotron"), rope_config, folded=True),
}
