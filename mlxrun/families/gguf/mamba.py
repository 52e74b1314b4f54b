"""Granite 4's hybrids in GGUF files: which layers are recurrent is told by key heads, of which those have none."""

from __future__ import annotations

from typing import Any

from ...spec import ModelError
from ..rules import Flatten, Rename, Rule, Squeeze
from .delta import DECAY
from .experts import experts
from .metadata import FILE, Metadata, layers_of, query_biases
from .names import AT

PLACES = {"ssm_in": "mixer.inp", "ssm_conv1d": "mixer.conv", "ssm_out": "mixer.o"}


def granite_scales(m: Metadata) -> dict[str, Any]:
    return {
        "attention_multiplier": m.get("attention.scale", 1.0),
        "embedding_multiplier": m.get("embedding_scale", 1.0),
        "residual_multiplier": m.get("residual_scale", 1.0),
        "logits_scaling": m.get("logit_scale", 1.0),
    }


def granite_hybrid(m: Metadata) -> dict[str, Any]:
    if m.get("rope.scaling.finetuned", True):
        raise ModelError(f"{FILE}: a {m.arch} model with positions (rope.scaling.finetuned) is not known.")
    for key in ("rope.dimension_count", "rope.freq_base", "attention.key_length", "attention.value_length"):
        m.get(key)  # of positions that there are none of, and as wide as heads are
    dim, heads, inner = m["embedding_length"], m["ssm.time_step_rank"], m["ssm.inner_size"]
    if not all(isinstance(n, int) and n > 0 for n in (dim, heads, inner)) or inner % heads or inner % dim:
        raise ModelError(f"{FILE}: {inner!r} channels are no multiple of {heads!r} heads and of the width {dim!r}.")
    kv_heads, recurrent = _kinds(m)
    hidden = m["feed_forward_length"]
    found = {
        **granite_scales(m),
        "num_key_value_heads": kv_heads,
        "layer_types": ["linear_attention" if yes else "full_attention" for yes in recurrent],
        "position_embedding_type": "nope",
        "intermediate_size": hidden,
        "shared_intermediate_size": m.get("expert_shared_feed_forward_length") or hidden,
        "attention_bias": query_biases(m),
        "mamba_n_heads": heads,
        "mamba_d_head": inner // heads,
        "mamba_expand": inner // dim,
        "mamba_n_groups": m["ssm.group_count"],
        "mamba_d_state": m["ssm.state_size"],
        "mamba_d_conv": m["ssm.conv_kernel"],
        "mamba_conv_bias": any(name.endswith("ssm_conv1d.bias") for name in m.shapes),
    }
    return {**found, **(experts(m) if m.get("expert_count") else {"num_experts": 0})}


def _kinds(m: Metadata) -> tuple[int, list[bool]]:
    """Key heads of the layers that have any, and which have none."""
    said = m["attention.head_count_kv"]
    heads = sorted(set(said) - {0}) if isinstance(said, list) else []
    if len(heads) != 1 or len(said) != layers_of(m) or 0 not in said:
        raise ModelError(f"{FILE}: {m.arch}.attention.head_count_kv must say of each layer how many it has, or 0.")
    return heads[0], [n == 0 for n in said]


def mamba_rules(m: Metadata) -> tuple[Rule, ...]:
    return (
        Squeeze(AT + r"ssm_(a|d)$", r"blk.\1.ssm_\2"),
        DECAY,
        Rename(AT + r"ssm_d$", r"layers.\1.mixer.D"),
        Rename(AT + r"ssm_dt\.bias$", r"layers.\1.mixer.dt_bias"),
        Flatten(AT + r"ssm_norm\.weight$", r"layers.\1.mixer.norm.weight"),  # by groups
    )
