"""llama.cpp's architectures with experts: what each one's own keys mean."""

from __future__ import annotations

from typing import Any

from .gguf_metadata import Metadata, layer_types, rope_config
from .gguf_names import AT
from .rules import Rule, Unzip


def experts(m: Metadata) -> dict[str, Any]:
    return {"num_experts": m["expert_count"], "num_experts_per_tok": m["expert_used_count"]}


def qwen3_moe(m: Metadata) -> dict[str, Any]:
    return {
        **rope_config(m),
        **experts(m),
        "moe_intermediate_size": m["expert_feed_forward_length"],
        "norm_topk_prob": bool(m.get("expert_weights_norm", True)),
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
