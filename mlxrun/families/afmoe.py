"""Trinity (AFMoE): gated attention with a window and positions, or with neither; norms around every branch."""

from __future__ import annotations

from dataclasses import replace

from ..spec import Attention, FeedForward, Layer, Router
from .common import (
    LAYER,
    NAMES,
    Recipe,
    Sizes,
    attention,
    decoder,
    gated,
    head_rules,
    layer_types,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .moe import experts_of, moe, refuse, router_rules, shared_experts, shared_rules, sigmoid_router
from .rules import Rename, Rule

_SLIDE, _FULL = "sliding_attention", "full_attention"


def afmoe(c: Config) -> Recipe:
    c.ignore("load_balance_coeff", "use_grouped_mm", "num_expert_groups", "num_limited_groups")
    s, norm, tied_head = sizes_of(c), rms(c, 1e-5), tied(c)
    period = c.count("global_attn_every_n_layers", 4)
    kinds = layer_types(c, s.layers, lambda i: _SLIDE if (i + 1) % period else _FULL)
    mixers = {kind: _attention(c, s, kind) for kind in sorted(set(kinds))}
    first = c.count("num_dense_layers", 1, low=0)
    dense, experts = gated(c), moe(c, _router(c), shared=shared_experts(c, "num_shared_experts"))
    ffns: list[FeedForward] = [dense if i < first else experts for i in range(s.layers)]
    layers = [
        Layer(mixers[kind], ffn, mixer_norm=norm, mixer_post=norm, ffn_norm=norm, ffn_post=norm)
        for kind, ffn in zip(kinds, ffns, strict=True)
    ]
    scale = s.dim**0.5 if c.flag("mup_enabled") else 1.0
    whole = decoder(c, s, layers, norm, tied_head, embed_scale=scale)
    return Recipe(whole, (*_rules(c), *head_rules(tied_head), *NAMES))


def _attention(c: Config, s: Sizes, kind: str) -> Attention:
    """Only layers with a window know positions."""
    bias = c.flag("attention_bias")
    usual = attention(
        c, s, kind, window=window_of(c, kind), qk_norm=rms(c, 1e-5), qkv_bias=bias, out_bias=bias, gate="elementwise"
    )
    return usual if kind == _SLIDE else replace(usual, rope=None)


def _router(c: Config) -> Router:
    """DeepSeek's, under other names."""
    refuse(c, "score_func", "sigmoid")
    return replace(sigmoid_router(c), renorm=c.flag("route_norm", True), scale=c.number("route_scale", 1.0))


def _rules(c: Config) -> tuple[Rule, ...]:
    stacked = rename_in_layer(r"mlp\.experts\.(gate|up|down)_proj", r"ffn.experts.\2")
    return (
        rename_in_layer(r"self_attn\.gate_proj", "mixer.gate"),
        rename_in_layer("input_layernorm", "mixer_norm"),
        rename_in_layer("post_attention_layernorm", "mixer_post"),
        rename_in_layer("pre_mlp_layernorm", "ffn_norm"),
        rename_in_layer("post_mlp_layernorm", "ffn_post"),
        Rename(LAYER + r"mlp\.expert_bias$", r"layers.\1.ffn.select_bias"),
        *router_rules(name=r"router\.gate"),
        *shared_rules(),
        *((stacked,) if c.dialect == "mlx" else experts_of(c)),
    )
