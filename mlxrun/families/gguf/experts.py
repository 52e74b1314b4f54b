"""llama.cpp's architectures with experts: what each one's own keys mean."""

from __future__ import annotations

import re
from typing import Any

from ...spec import ModelError
from ..rules import Rule, Unflatten, Unzip
from .metadata import FILE, Metadata, layer_types, query_biases, rope_config
from .names import AT


def experts(m: Metadata) -> dict[str, Any]:
    return {"num_experts": m["expert_count"], "num_experts_per_tok": m["expert_used_count"]}


def qwen3_moe(m: Metadata) -> dict[str, Any]:
    return {
        **rope_config(m),
        **experts(m),
        "moe_intermediate_size": m["expert_feed_forward_length"],
        "norm_topk_prob": bool(m.get("expert_weights_norm", True)),
    }


GATES = {1: "softmax", 2: "sigmoid"}


def qwen2_moe(m: Metadata) -> dict[str, Any]:
    return {
        **rope_config(m),
        **experts(m),
        "moe_intermediate_size": m["expert_feed_forward_length"],
        "shared_expert_intermediate_size": m.get("expert_shared_feed_forward_length") or m["feed_forward_length"],
        "norm_topk_prob": bool(m.get("expert_weights_norm", False)),
        "qkv_bias": query_biases(m),
    }


def olmoe(m: Metadata) -> dict[str, Any]:
    m.get("expert_feed_forward_length")  # said again
    clip = m.get("attention.clamp_kqv")
    return {**rope_config(m), **experts(m), **({"clip_qkv": clip} if clip else {})}


def shared_gate(m: Metadata) -> tuple[Rule, ...]:
    """One row, which llama.cpp's converter makes a vector."""
    place = "ffn_gate_inp_shexp.weight"
    if not any(name.endswith(place) and len(shape) == 1 for name, shape in m.shapes.items()):
        return ()
    return (Unflatten(AT + re.escape(place) + "$", r"layers.\1.ffn.shared_gate.weight", 1),)


def deepseek_experts(m: Metadata, gate: int, *, chosen_by_bias: bool) -> dict[str, Any]:
    """`gate`: the scores where the file is silent. Whether a bias joins in choosing is not a key but a tensor."""
    first, scores = m.get("leading_dense_block_count", 0), m.get("expert_gating_func", 0) or gate
    biased = any(name.endswith((".exp_probs_b", ".exp_probs_b.bias")) for name in m.shapes)
    if GATES.get(scores) != GATES[gate] or biased is not chosen_by_bias:
        raise ModelError(
            f"{FILE}: a {m.arch} model of expert_gating_func {scores} {'with' if biased else 'without'} a bias that "
            f"chooses experts is not known."
        )
    return {
        **experts(m),
        "moe_intermediate_size": m["expert_feed_forward_length"],
        "n_shared_experts": m.get("expert_shared_count", 0),
        "first_k_dense_replace": first,
        "n_group": m.get("expert_group_count", 0) or 1,
        "topk_group": m.get("expert_group_used_count", 0) or 1,
        "norm_topk_prob": bool(m.get("expert_weights_norm", False)),
        "routed_scaling_factor": float(m.get("expert_weights_scale", 0.0) or 1.0),
    }


def glm4_moe(m: Metadata) -> dict[str, Any]:
    return {
        **rope_config(m),
        **deepseek_experts(m, 2, chosen_by_bias=True),
        "attention_bias": query_biases(m),
        "use_qk_norm": "blk.0.attn_q_norm.weight" in m.shapes,
    }


def gpt_oss(m: Metadata) -> dict[str, Any]:
    """No key says that yarn's bounds stay unrounded, which they do in all that was published."""
    found = rope_config(m, 150_000.0, "yarn")
    if "rope_scaling" in found:
        found["rope_scaling"]["truncate"] = False
    return {
        **found,
        **experts(m),
        "intermediate_size": m.get("expert_feed_forward_length") or m["feed_forward_length"],
        "sliding_window": m["attention.sliding_window"],
        "layer_types": layer_types(m, 2),
    }


def zipped_experts(m: Metadata) -> tuple[Rule, ...]:
    """Gate and up rows alternate in what Ollama's own converter wrote."""
    return tuple(
        Unzip(
            AT + rf"ffn_gate_up_exps\.{part}$",
            tuple(rf"layers.\1.ffn.experts.{half}.{part}" for half in ("gate", "up")),  # type: ignore[arg-type]  # two
            axis=axis,
        )
        for part, axis in (("weight", -2), ("bias", -1))
    )
