"""Gemma 4 in GGUF files: widths that differ between full and sliding layers, keys that are values, lent keys.

Which part of a full layer's head turns is told by a tensor of factors: 1 for what does, 1e30 for what stands still.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...spec import ModelError
from ..rules import Drop, Rename, Rule, Split
from .experts import experts
from .metadata import FILE, Metadata, layer_types, layers_of
from .names import AT, placed

PLACES = {"inp_gate": "per_layer.gate", "proj": "per_layer.out", "post_norm": "per_layer.norm"}
_BESIDE_EXPERTS = {
    "ffn_norm": "ffn.dense_norm",
    "ffn_gate": "ffn.dense.gate",
    "ffn_up": "ffn.dense.up",
    "ffn_down": "ffn.dense.down",
    "post_ffw_norm_1": "ffn.dense_post",
    "pre_ffw_norm_2": "ffn.experts_norm",
    "post_ffw_norm_2": "ffn.experts_post",
    "ffn_gate_inp": "ffn.moe.router",
    "ffn_gate_exps": "ffn.moe.experts.gate",
    "ffn_up_exps": "ffn.moe.experts.up",
    "ffn_down_exps": "ffn.moe.experts.down",
}
_STILL = 1e29  # a factor above means that the pair does not turn
_MOST = 10_000  # layers


def gemma4(m: Metadata) -> dict[str, Any]:
    kinds = _kinds(m)
    few, wide = m["attention.key_length_swa"], m["attention.key_length"]
    for kind in ("", "_swa"):
        if m.get(f"attention.value_length{kind}") != m[f"attention.key_length{kind}"]:
            raise ModelError(f"{FILE}: values of another size than keys are not supported.")
    heads = list(_each(m, "attention.head_count_kv", len(kinds)))
    full = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
    found = {
        "head_dim": few,
        "num_key_value_heads": next((n for n, kind in zip(heads, kinds, strict=True) if kind != "full_attention"), 1),
        "per_layer_config": {str(i): {"head_dim": wide, "num_key_value_heads": heads[i]} for i in full},
        "attention_k_eq_v": bool(full) and f"blk.{full[0]}.attn_v.weight" not in m.shapes,
        "num_kv_shared_layers": _lent(m),
        "layer_types": kinds,
        "sliding_window": m["attention.sliding_window"],
        "rope_parameters": _ropes(m, few, wide),
        "hidden_size_per_layer_input": m.get("embedding_length_per_layer_input", 0),
        "vocab_size_per_layer_input": int(m.shapes.get("per_layer_token_embd.weight", (1,))[0]),
        "final_logit_softcapping": m.get("final_logit_softcapping"),
        "hidden_activation": "gelu_pytorch_tanh",
        **_feed_forward(m, len(kinds)),
    }
    if m.get("expert_count"):
        found |= {**experts(m), "enable_moe_block": True, "moe_intermediate_size": m["expert_feed_forward_length"]}
    return found


def _kinds(m: Metadata) -> list[str]:
    layers, kinds = layers_of(m), layer_types(m)
    if kinds is None or len(kinds) != layers or not 0 < layers <= _MOST:
        raise ModelError(f"{FILE}: {m.arch}.attention.sliding_window_pattern must say of each layer whether it slides.")
    return kinds


def _each(m: Metadata, key: str, layers: int) -> Iterator[int]:
    """One number for all layers, or one for each."""
    said = m[key]
    numbers = said if isinstance(said, list) else [said] * layers
    if len(numbers) != layers or not all(isinstance(n, int) and n > 0 for n in numbers):
        raise ModelError(f"{FILE}: {m.arch}.{key} must be one whole number, or one for each of the {layers} layers.")
    yield from numbers


def _lent(m: Metadata) -> int:
    """Layers at the end that have no keys of their own."""
    lent = m.get("attention.shared_kv_layers", 0)
    if not isinstance(lent, int) or not 0 <= lent < layers_of(m):
        raise ModelError(f"{FILE}: {m.arch}.attention.shared_kv_layers cannot be {lent!r}.")
    return lent


def _feed_forward(m: Metadata, layers: int) -> dict[str, Any]:
    """Layers that borrow keys may have twice the width."""
    widths = list(_each(m, "feed_forward_length", layers))
    own, first, twice = layers - _lent(m), widths[0], widths[-1] > widths[0]
    if widths != [first * (2 if twice and i >= own else 1) for i in range(layers)]:
        raise ModelError(f"{FILE}: {m.arch}.feed_forward_length differs where a Gemma 4 does not.")
    return {"intermediate_size": first, "use_double_wide_mlp": twice}


def _ropes(m: Metadata, few: int, wide: int) -> dict[str, Any]:
    if m.get("rope.dimension_count", wide) != wide or m.get("rope.dimension_count_swa", few) != few:
        raise ModelError(f"{FILE}: a Gemma 4 that turns parts of heads otherwise than by rope_freqs is not known.")
    factors = m.factors.get("rope_freqs.weight")
    turning = wide // 8 if factors is None else sum(f == 1 for f in factors)  # a quarter, as published
    if factors is not None and (
        len(factors) != wide // 2
        or any(f < _STILL for f in factors[turning:])
        or any(f != 1 for f in factors[:turning])
    ):
        raise ModelError(f"{FILE}: rope_freqs.weight must be {wide // 2} values, ones and then very large ones.")
    return {
        "sliding_attention": {"rope_type": "default", "rope_theta": float(m.get("rope.freq_base_swa", 10_000.0))},
        "full_attention": {
            "rope_type": "proportional",
            "partial_rotary_factor": 2 * turning / wide,
            "rope_theta": float(m.get("rope.freq_base", 1_000_000.0)),
        },
    }


def rules(m: Metadata) -> tuple[Rule, ...]:
    layers, whole = layers_of(m), r"per_layer_"
    borrowed = "|".join(str(i) for i in range(layers - _lent(m), layers))
    return (
        *((Drop(rf"^blk\.(?:{borrowed})\.attn_(?:k|v|k_norm)\."),) if borrowed else ()),
        Rename(AT + r"layer_output_scale\.weight$", r"layers.\1.out_scale"),
        Rename(rf"^{whole}token_embd\.", "per_layer.embed."),
        Rename(rf"^{whole}model_proj\.", "per_layer.proj."),
        Rename(rf"^{whole}proj_norm\.", "per_layer.norm."),
        *(_expert_rules() if m.get("expert_count") else ()),
    )


def _expert_rules() -> tuple[Rule, ...]:
    made = r"layers.\1.ffn.moe."
    return (
        Rename(AT + r"ffn_gate_inp\.scale$", made + "router_scale"),
        Rename(AT + r"ffn_down_exps\.scale$", made + "expert_scale"),
        Split(AT + r"ffn_gate_up_exps\.weight$", (made + "experts.gate.weight", made + "experts.up.weight"), axis=-2),
        *placed(_BESIDE_EXPERTS),
    )
