"""Qwen 3 Next and Qwen 3.5 in GGUF files: gated delta layers under llama.cpp's names for state-space models.

Where fewer key heads than value heads are, Qwen 3.5's converter deals value heads out (those that share the first key
head do not lie side by side but the first ones of every key head do); here they go back, which moves whole heads.
"""

from __future__ import annotations

from typing import Any

from ...spec import ModelError
from ..rules import Map, Rename, Rule, Shuffle, Split
from .experts import qwen2_moe, shared_gate
from .metadata import FILE, Metadata, layers_of, rope_config
from .names import AT

DECAY = Map(AT + r"ssm_a$", (r"layers.\1.mixer.A_log",), lambda a: [(-a).log()])  # stored as -exp of it
PLACES = {
    "post_attention_norm": "ffn_norm",
    "attn_gate": "mixer.z",
    "ssm_alpha": "mixer.a",
    "ssm_beta": "mixer.b",
    "ssm_conv1d": "mixer.conv",
    "ssm_norm": "mixer.norm",
    "ssm_out": "mixer.o",
}


def _sizes(m: Metadata) -> tuple[int, int, int, int]:
    """Key heads, value heads, and how wide each is."""
    keys, values, inner = m["ssm.group_count"], m["ssm.time_step_rank"], m["ssm.inner_size"]
    if not all(isinstance(n, int) and n > 0 for n in (keys, values, inner)) or values % keys or inner % values:
        raise ModelError(f"{FILE}: {values!r} value heads cannot share {keys!r} key heads and {inner!r} channels.")
    return keys, values, m["ssm.state_size"], inner // values


def qwen3_next(m: Metadata) -> dict[str, Any]:
    found = qwen2_moe(m)
    del found["qkv_bias"]
    return {**found, **_delta(m), "norm_topk_prob": bool(m.get("expert_weights_norm", True))}


def qwen3_5(m: Metadata) -> dict[str, Any]:
    m.get("rope.dimension_sections")  # of pictures and time; text turns all alike
    return {**rope_config(m, 1e7), **_delta(m)}


def qwen3_5_moe(m: Metadata) -> dict[str, Any]:
    m.get("rope.dimension_sections")
    return qwen3_next(m)


def _delta(m: Metadata) -> dict[str, Any]:
    keys, values, key_dim, value_dim = _sizes(m)
    interval, recurrent = m.get("full_attention_interval", 4), m.get("attention.recurrent_layers")
    if isinstance(recurrent, list):
        kinds = ["linear_attention" if yes else "full_attention" for yes in recurrent[: layers_of(m)]]
        listed: dict[str, Any] = {"layer_types": kinds}
    else:
        listed = {"full_attention_interval": interval}
    return {
        **listed,
        "linear_num_key_heads": keys,
        "linear_num_value_heads": values,
        "linear_key_head_dim": key_dim,
        "linear_value_head_dim": value_dim,
        "linear_conv_kernel_dim": m["ssm.conv_kernel"],
    }


def _names(m: Metadata) -> tuple[Rule, ...]:
    return (
        *shared_gate(m),
        DECAY,
        Rename(AT + r"ssm_dt\.bias$", r"layers.\1.mixer.dt_bias"),
        Rename(AT + r"attn_qkv\.(?=weight)", r"layers.\1.mixer.qkv."),
    )


def next_rules(m: Metadata) -> tuple[Rule, ...]:
    """Beta and alpha of a key head's value heads lie together, as the authors have it."""
    keys, values, _, _ = _sizes(m)
    halves = (r"layers.\1.mixer.b.weight", r"layers.\1.mixer.a.weight")
    return (
        Split(AT + r"ssm_ba\.weight$", halves, (values // keys, values // keys), groups=keys),
        *_names(m),
    )


def dealt_rules(m: Metadata) -> tuple[Rule, ...]:
    keys, values, key_dim, value_dim = _sizes(m)
    if keys == values:
        return _names(m)
    share = values // keys
    order = tuple(turn * keys + key for key in range(keys) for turn in range(share))  # key by key again
    after = (0, *(1 + i for i in order))
    heads, ones, mixed = (value_dim,) * values, (1,) * values, (2 * keys * key_dim, *(value_dim,) * values)
    return (
        Shuffle(AT + r"(attn_qkv|ssm_conv1d)\.weight$", r"blk.\1.\2.weight", mixed, after),
        Shuffle(AT + r"attn_gate\.weight$", r"blk.\1.attn_gate.weight", heads, order),
        Shuffle(AT + r"(ssm_alpha|ssm_beta)\.weight$", r"blk.\1.\2.weight", ones, order),
        Shuffle(AT + r"(ssm_a|ssm_dt\.bias)$", r"blk.\1.\2", ones, order),
        Shuffle(AT + r"ssm_out\.weight$", r"blk.\1.ssm_out.weight", heads, order, axis=-1),
        *_names(m),
    )
