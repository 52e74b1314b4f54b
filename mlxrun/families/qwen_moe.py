"""Qwen 2 and 3 with experts in all layers but those that the file names; in Qwen 2 beside a gated shared one."""

from __future__ import annotations

from dataclasses import replace

from ..spec import Attention, FeedForward, ModelError, Router
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    layer_types,
    pre_norm_layers,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .moe import WIDEST, experts_of, moe, refuse, router_rules, shared_rules, sparse_kinds, top_k
from .rules import Drop, Split, Transpose


def sparse_layers(c: Config, layers: int) -> tuple[bool, ...]:
    """Which layers have experts."""
    only, step = c.get("mlp_only_layers", []), c.count("decoder_sparse_step", 1)
    if not isinstance(only, list):
        raise ModelError(f"{c.file}: mlp_only_layers must be a list of layer numbers, not {only!r}.")
    return tuple(i not in only and (i + 1) % step == 0 for i in range(layers))


def qwen2_moe(c: Config) -> Recipe:
    refuse(c, "use_sliding_window", False)  # no published model does, and its layers would be others than Qwen 2's
    c.ignore("sliding_window", "max_window_layers")
    s, norm, tied_head = sizes_of(c), rms(c), tied(c)
    layer_types(c, s.layers, lambda i: "full_attention", ("full_attention",))
    mixer = attention(c, s, qkv_bias=c.flag("qkv_bias", True))
    router, shared = Router(top_k(c), renorm=c.flag("norm_topk_prob")), "shared_expert_intermediate_size"
    experts, dense = moe(c, router, shared=gated(c, hidden=shared), shared_gate=True), gated(c)
    ffns: list[FeedForward] = [experts if yes else dense for yes in sparse_layers(c, s.layers)]
    layers = pre_norm_layers(norm, [mixer] * s.layers, ffns)
    rules = (*router_rules(), *shared_rules(), *experts_of(c), *head_rules(tied_head), *NAMES, *PRE)
    return Recipe(decoder(c, s, layers, norm, tied_head), rules)


def qwen3_moe(c: Config) -> Recipe:
    return _third(c, renorm=c.flag("norm_topk_prob"))


def _third(c: Config, *, renorm: bool) -> Recipe:
    s, norm, tied_head = sizes_of(c), rms(c), tied(c)
    slides = c.flag("use_sliding_window") and c.get("sliding_window") is not None  # then every layer does
    c.ignore("sliding_window", "max_window_layers")
    bias = c.flag("attention_bias")
    mixer: Attention = attention(
        c,
        s,
        window=window_of(c, "sliding_attention" if slides else "full_attention"),
        qk_norm=norm,
        qkv_bias=bias,
        out_bias=bias,
    )
    experts, dense = moe(c, Router(top_k(c), renorm=renorm)), gated(c)
    ffns: list[FeedForward] = [experts if yes else dense for yes in sparse_layers(c, s.layers)]
    layers = pre_norm_layers(norm, [mixer] * s.layers, ffns)
    rules = (*router_rules(), *experts_of(c), *head_rules(tied_head), *NAMES, *PRE)
    return Recipe(decoder(c, s, layers, norm, tied_head), rules)


def qwen3_vl_moe(c: Config) -> Recipe:
    """The text half of Qwen 3 VL with experts: published input first, saved by transformers 5 as others are."""
    c.ignore("norm_topk_prob")
    recipe, dim, hidden = _third(c, renorm=True), c.count("hidden_size"), c.count("moe_intermediate_size", high=WIDEST)
    block, ours = LAYER + r"mlp\.experts\.", r"layers.\1.ffn.experts."
    turned = (
        Transpose(block + "gate_up_proj$", ours + "gate_up.weight", unless=(2 * hidden, dim)),
        Transpose(block + "down_proj$", ours + "down.weight", unless=(dim, hidden)),
    )
    cut = r"^layers\.(\d+)\.ffn\.experts\.gate_up\.weight$"
    halves = Split(cut, (ours + "gate.weight", ours + "up.weight"), axis=-2)
    return recipe if c.dialect == "mlx" else replace(recipe, rules=(*turned, halves, *recipe.rules))


def mellum(c: Config) -> Recipe:
    """Qwen 3 MoE whose layers are listed: which slide, each kind with a rope of its own, and which have experts."""
    c.ignore("num_mtp_layers", "mtp_layer_types", "mtp_mlp_layer_types")
    s, norm, tied_head, bias = sizes_of(c), rms(c), tied(c), c.flag("attention_bias")
    mixers = [
        attention(c, s, kind, window=window_of(c, kind, 1024), qk_norm=norm, qkv_bias=bias, out_bias=bias)
        for kind in layer_types(c, s.layers, lambda i: "full_attention")
    ]
    experts, dense = moe(c, Router(top_k(c), renorm=c.flag("norm_topk_prob", True))), gated(c)
    ffns: list[FeedForward] = [experts if yes else dense for yes in sparse_kinds(c, s.layers, 0)]
    rules = (*router_rules(), *experts_of(c), *head_rules(tied_head), *NAMES, *PRE)
    return Recipe(
        decoder(c, s, pre_norm_layers(norm, mixers, ffns), norm, tied_head),
        (Drop(r"^mtp\.", "multi-token prediction"), *rules),
    )
