"""DeepSeek's architecture in GGUF files (V2 Lite, V3, R1, Kimi K2): latent attention, kv_b whole or cut in two."""

from __future__ import annotations

from typing import Any

from ...spec import ModelError
from ..rules import Rename, Rule, Split, Unflatten
from .experts import GATES, deepseek_experts
from .metadata import FILE, Metadata, longrope_config, scaling_config
from .names import AT

PLACES = {
    "attn_q_a": "mixer.q_a",
    "attn_q_a_norm": "mixer.q_a_norm",
    "attn_q_b": "mixer.q_b",
    "attn_kv_a_mqa": "mixer.kv_a",
    "attn_kv_a_norm": "mixer.kv_a_norm",
}
# What files of before October 2025 do not say. (scores, experts): (groups of experts, how many of them are looked at)
GROUPS = {("sigmoid", 256): (8, 4), ("softmax", 160): (8, 3)}


def deepseek_type(m: Metadata) -> str:
    return {"softmax": "deepseek_v2", "sigmoid": "deepseek_v3"}[_scores(m)]


def _scores(m: Metadata) -> str:
    """Files of V2 do not say."""
    number = m.get("expert_gating_func", 0) or 1
    if number not in GATES:
        raise ModelError(f"{FILE}: {m.arch}.expert_gating_func {number!r} is not known.")
    return GATES[number]


def _widths(m: Metadata) -> tuple[int, int, int]:
    """Of a head: what does not turn, what turns, values. The plain keys are those of the latent in newer files."""
    keys, values = m["attention.key_length"], m["attention.value_length"]
    whole, values = m.get("attention.key_length_mla", keys), m.get("attention.value_length_mla", values)
    turned = m["rope.dimension_count"]
    if not all(isinstance(width, int) for width in (whole, turned, values)) or whole <= turned:
        raise ModelError(f"{FILE}: keys of {whole!r} values of which {turned!r} turn are not possible.")
    return whole - turned, turned, values


def deepseek2(m: Metadata) -> dict[str, Any]:
    scores = _scores(m)
    found = deepseek_experts(m, 1 if scores == "softmax" else 2, chosen_by_bias=scores == "sigmoid")
    if m.get("expert_group_count") is None:
        found["n_group"], found["topk_group"] = GROUPS.get((scores, m["expert_count"]), (1, 1))
    if scores == "softmax" and found["n_group"] > 1:
        found["topk_method"] = "group_limited_greedy"
    nope, turned, values = _widths(m)
    m.get("attention.head_count_kv")  # of the latent, or as many as queries
    rank = m.get("attention.q_lora_rank")
    return {
        **found,
        **_rope(m),
        "intermediate_size": m["feed_forward_length"],
        "q_lora_rank": rank if "blk.0.attn_q_a.weight" in m.shapes else None,
        "kv_lora_rank": m["attention.kv_lora_rank"],
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": turned,
        "v_head_dim": values,
    }


def minicpm3(m: Metadata) -> dict[str, Any]:
    """Values are as wide as heads usually are; the scales are llama.cpp's own."""
    nope, turned, values = _plain_widths(m)
    m.get("attention.head_count_kv")  # as many as queries
    return {
        "rope_theta": float(m.get("rope.freq_base", 10000.0)),
        **longrope_config(m),
        "intermediate_size": m["feed_forward_length"],
        "q_lora_rank": m["attention.q_lora_rank"],
        "kv_lora_rank": m["attention.kv_lora_rank"],
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": turned,
        "v_head_dim": values,
    }


def _plain_widths(m: Metadata) -> tuple[int, int, int]:
    keys, turned = m.count("attention.key_length", low=3), m.count("rope.dimension_count")
    if keys <= turned:
        raise ModelError(f"{FILE}: keys of {keys} values of which {turned} turn are not possible.")
    return keys - turned, turned, m["embedding_length"] // m.count("attention.head_count", high=m["embedding_length"])


def whole_kv_rules(m: Metadata) -> tuple[Rule, ...]:
    """kv_b in one, the keys' rows of a head before the values'."""
    nope, _, values = _plain_widths(m)
    return _cut(nope, values, m["attention.head_count"])


def _cut(nope: int, values: int, heads: int) -> tuple[Rule, ...]:
    halves = (r"layers.\1.mixer.k_b.rows", r"layers.\1.mixer.v_b.rows")
    return (
        Split(AT + r"attn_kv_b\.weight$", halves, (nope, values), groups=heads),
        Unflatten(r"^layers\.(\d+)\.mixer\.([kv]_b)\.rows$", r"layers.\1.mixer.\2.weight", heads),
    )


def _rope(m: Metadata) -> dict[str, Any]:
    """llama.cpp has one multiplier, a tenth of mscale_all_dim; mscale has always been the same."""
    if m.factors:
        raise ModelError(f"{FILE}: rope factors as tensors are not known in a {m.arch} model.")
    found = {"rope_theta": float(m.get("rope.freq_base", 10000.0)), **scaling_config(m)}
    if "rope_scaling" in found:
        sharper = round(10 * m["rope.scaling.yarn_log_multiplier"], 5)  # a float32
        found["rope_scaling"] |= {"mscale": sharper, "mscale_all_dim": sharper}
    return found


def kv_rules(m: Metadata) -> tuple[Rule, ...]:
    """The newer k_b is turned round: (heads, rank, nope)."""
    nope, _, values = _widths(m)
    return (
        *_cut(nope, values, m["attention.head_count"]),
        Rename(AT + r"attn_k_b\.weight$", r"layers.\1.mixer.k_bt.weight"),
        Rename(AT + r"attn_v_b\.weight$", r"layers.\1.mixer.v_b.weight"),
    )
