"""Gemma 4: full layers with wider heads, values normed, optionally keys that are values, shared keys,
an embedding for every layer, experts beside the dense network.

Norms are stored as they are multiplied. Layers that borrow keys still have their own in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..spec import Attention, Dense, DenseAndExperts, ModelError, MoE, Norm, PerLayerInput, Router
from .common import (
    LAYER,
    NAMES,
    SANDWICH,
    Recipe,
    Sizes,
    attention,
    cap_of,
    decoder,
    head_rules,
    layer_types,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .gemma import gemma_activation, sandwich_layer
from .rope import rope_from, rope_parameters
from .rules import Drop, Rename, Rule, Split

_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}


def gemma4_text(c: Config) -> Recipe:
    return _text(c, per_layer=256)


def gemma4_unified_text(c: Config) -> Recipe:
    """The 12B: nothing feeds every layer."""
    return _text(c, per_layer=0)


def _text(c: Config, per_layer: int) -> Recipe:
    if c.get("use_bidirectional_attention") not in (None, "vision"):  # "vision" is about images only
        raise ModelError(f"{c.file}: a Gemma 4 that sees both ways in text is not supported.")
    s, norm, tied_head = sizes_of(c), rms(c), tied(c, True)
    kinds = layer_types(c, s.layers, lambda i: "sliding_attention" if (i + 1) % 6 else "full_attention")
    kinds = (*kinds[:-1], "full_attention")  # the reference forces the last one
    own = s.layers - c.count("num_kv_shared_layers", 0, low=0, high=s.layers - 1)
    extra = c.count("hidden_size_per_layer_input", per_layer, low=0, high=1 << 16)
    experts = _experts(c, norm)
    mixers = lent(c, kinds, own, [_mixer(c, s, i, kind) for i, kind in enumerate(kinds)])
    layers = []
    for mixer, dense in zip(mixers, _dense(c, s.layers, own), strict=True):
        layer = replace(sandwich_layer(norm, mixer, dense), out_scale=True, per_layer_input=extra > 0)
        if experts is not None:  # the dense network's own norms move inside
            layer = replace(layer, ffn=DenseAndExperts(dense, experts, norm), ffn_norm=None)
        layers.append(layer)
    act = gemma_activation(c)
    vocab = c.count("vocab_size_per_layer_input", 262_144, high=1 << 26)
    whole = decoder(c, s, layers, norm, tied_head, embed_scale=s.dim**0.5)
    whole = replace(
        whole,
        logit_softcap=cap_of(c, "final_logit_softcapping"),
        per_layer=PerLayerInput(extra, vocab, act, norm, c.count("pad_token_id", 0, low=0)) if extra else None,
    )
    inner = _EXPERTS if experts is not None else ()
    return Recipe(whole, (*borrowed(own, s.layers), *head_rules(tied_head), *PER_LAYER, *inner, *NAMES, *SANDWICH))


def lent(c: Config, kinds: tuple[str, ...], own: int, mixers: list[Attention]) -> list[Attention]:
    """The last own layer of each kind lends its keys to all later layers of that kind."""
    lender = {kind: i for i, kind in enumerate(kinds[:own])}
    slots = {kind: slot for slot, kind in enumerate(sorted(set(kinds[own:])))}
    if not set(slots) <= set(lender):
        raise ModelError(f"{c.file}: num_kv_shared_layers leaves no layer to borrow keys from.")
    found = []
    for i, (kind, mixer) in enumerate(zip(kinds, mixers, strict=True)):
        if i >= own:
            mixer = replace(mixer, borrows=slots[kind])
        elif kind in slots and lender[kind] == i:
            mixer = replace(mixer, lends=slots[kind])
        found.append(mixer)
    return found


def _mixer(c: Config, s: Sizes, i: int, kind: str) -> Attention:
    full, norm = kind == "full_attention", rms(c)
    k_is_v = c.flag("attention_k_eq_v") and full
    head_dim, kv_heads = _overrides(c, s, i, full, k_is_v)
    p = rope_parameters(c, kind) if "rope_parameters" in c else _ROPE[kind]
    bias = c.flag("attention_bias")
    return attention(
        c,
        replace(s, head_dim=head_dim, kv_heads=kv_heads),
        rope=rope_from(c, p, head_dim),
        scale=1.0,
        window=window_of(c, kind, 512),
        qk_norm=norm,
        v_norm=Norm(norm.eps, weight=False),
        k_is_v=k_is_v,
        qkv_bias=bias,
        out_bias=bias,
    )


def _overrides(c: Config, s: Sizes, i: int, full: bool, k_is_v: bool) -> tuple[int, int]:
    """(head size, key heads) of a layer: one dict a layer in newer files, two global keys in older ones."""
    wide = c.count("global_head_dim", 512, high=1 << 14)
    few = c.count("num_global_key_value_heads", s.kv_heads, high=1 << 14)
    per_layer: Any = c.get("per_layer_config")
    if per_layer is None:
        return (wide if full else s.head_dim), (few if k_is_v else s.kv_heads)
    mine = (per_layer.get(str(i)) or {}) if isinstance(per_layer, Mapping) else None
    if not isinstance(mine, Mapping) or not set(mine) <= {"head_dim", "num_key_value_heads"}:
        raise ModelError(f"{c.file}: per_layer_config may give head_dim and num_key_value_heads; layer {i} differs.")
    own = Config(mine, file=f"{c.file}, per_layer_config of layer {i}")
    return (
        own.count("head_dim", s.head_dim, high=1 << 14),
        own.count("num_key_value_heads", s.kv_heads, high=1 << 14),
    )


def _dense(c: Config, layers: int, own: int) -> list[Dense]:
    """Borrowing layers may spend what they save on a network of twice the width."""
    act, hidden = gemma_activation(c), c.count("intermediate_size", high=1 << 22)
    wide = 2 if c.flag("use_double_wide_mlp") else 1
    return [Dense(hidden * (wide if i >= own else 1), act) for i in range(layers)]


def _experts(c: Config, norm: Norm) -> MoE | None:
    c.ignore("num_experts", "top_k_experts", "moe_intermediate_size")  # written as null or 0 where unused
    if not c.flag("enable_moe_block"):
        return None
    router = Router(c.count("num_experts_per_tok"), renorm=True, norm=Norm(norm.eps, weight=False), expert_scale=True)
    return MoE(c.count("num_experts", high=1 << 16), c.count("moe_intermediate_size"), router, gemma_activation(c))


def borrowed(own: int, layers: int) -> tuple[Rule, ...]:
    numbers = "|".join(str(i) for i in range(own, layers))
    return (Drop(rf"^(?:model\.)?layers\.(?:{numbers})\.self_attn\.(?:k_proj|v_proj|k_norm)\."),) if numbers else ()


PER_LAYER: tuple[Rule, ...] = (
    Rename(r"^(?:model\.)?embed_tokens_per_layer\.", "per_layer.embed."),
    Rename(r"^(?:model\.)?per_layer_model_projection\.", "per_layer.proj."),
    Rename(r"^(?:model\.)?per_layer_projection_norm\.", "per_layer.norm."),
    rename_in_layer("per_layer_input_gate", "per_layer.gate"),
    rename_in_layer("per_layer_projection", "per_layer.out"),
    rename_in_layer("post_per_layer_input_norm", "per_layer.norm"),
    Rename(LAYER + r"layer_scalar$", r"layers.\1.out_scale"),
)
_EXPERTS: tuple[Rule, ...] = (
    rename_in_layer(r"pre_feedforward_layernorm_2", "ffn.experts_norm"),
    rename_in_layer(r"post_feedforward_layernorm_1", "ffn.dense_post"),
    rename_in_layer(r"post_feedforward_layernorm_2", "ffn.experts_post"),
    rename_in_layer(r"pre_feedforward_layernorm", "ffn.dense_norm"),
    rename_in_layer(r"mlp\.(gate|up|down)_proj", r"ffn.dense.\2"),
    rename_in_layer(r"router\.proj", "ffn.moe.router"),
    Rename(LAYER + r"router\.scale$", r"layers.\1.ffn.moe.router_scale"),
    Rename(LAYER + r"router\.per_expert_scale$", r"layers.\1.ffn.moe.expert_scale"),
    rename_in_layer(r"experts\.switch_glu\.(gate|up|down)_proj", r"ffn.moe.experts.\2"),  # the mlx dialect
    Split(
        LAYER + r"experts\.gate_up_proj(?:\.weight)?$",
        (r"layers.\1.ffn.moe.experts.gate.weight", r"layers.\1.ffn.moe.experts.up.weight"),
        axis=-2,
    ),
    Rename(LAYER + r"experts\.down_proj(?:\.weight)?$", r"layers.\1.ffn.moe.experts.down.weight"),
)
