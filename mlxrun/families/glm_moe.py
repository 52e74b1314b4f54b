"""GLM 4.5 to 4.7, Solar Open, dots.llm1: grouped-query attention, DeepSeek's router, dense first layers. And the first
DeepSeek, whose router is a softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..spec import Attention, FeedForward, Router
from .common import (
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    layer_types,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .moe import (
    experts_of,
    moe,
    prediction_rules,
    refuse,
    router_rules,
    shared_experts,
    shared_rules,
    sigmoid_router,
    sparse_kinds,
    top_k,
)
from .prediction import layer_after_last
from .rope import rope_of


def glm4_moe(c: Config) -> Recipe:
    """Half of every head turns."""
    s = sizes_of(c)
    mixer = attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, partial=0.5),
        qk_norm=rms(c, 1e-5) if c.flag("use_qk_norm") else None,
        qkv_bias=c.flag("attention_bias"),
    )
    return routed(c, [mixer] * s.layers, first=1)


def solar_open(c: Config) -> Recipe:
    c.ignore("partial_rotary_factor", "use_qk_norm")  # written and not read
    refuse(c, "scoring_func", "sigmoid")
    refuse(c, "topk_method", "noaux_tc")
    s = sizes_of(c)
    mixer = attention(c, s, rope=rope_of(c, s.head_dim, base=1e6, partial=None), qkv_bias=c.flag("attention_bias"))
    return routed(c, [mixer] * s.layers, first=0)


def deepseek(c: Config) -> Recipe:
    """The first one: plain attention, a softmax router, experts in every `moe_layer_freq`th layer."""
    refuse(c, "scoring_func", "softmax")
    for key in ("n_group", "topk_group", "routed_scaling_factor"):
        refuse(c, key, 1)
    c.ignore("aux_loss_alpha", "seq_aux")
    s, norm, tied_head, bias = sizes_of(c), rms(c), tied(c), c.flag("attention_bias")
    period = c.count("moe_layer_freq", 1)
    sparse = [yes and i % period == 0 for i, yes in enumerate(sparse_kinds(c, s.layers, 0))]
    router = Router(top_k(c), renorm=c.flag("norm_topk_prob"))
    experts = moe(c, router, shared=shared_experts(c))
    ffns: list[FeedForward] = [experts if yes else gated(c) for yes in sparse]
    mixer = attention(c, s, qkv_bias=bias, out_bias=bias)
    names = (*router_rules(), *shared_rules(), *experts_of(c), *head_rules(tied_head), *NAMES, *PRE)
    return Recipe(decoder(c, s, pre_norm_layers(norm, [mixer] * s.layers, ffns), norm, tied_head), names)


def dots1(c: Config) -> Recipe:
    """Norms on query and key heads; layers from max_window_layers on slide."""
    s, bias, first = sizes_of(c), c.flag("attention_bias"), c.count("max_window_layers", 62, low=0)
    slides = c.get("sliding_window") is not None
    kinds = layer_types(c, s.layers, lambda i: "sliding_attention" if slides and i >= first else "full_attention")
    refuse(c, "scoring_func", "sigmoid", "noaux_tc")
    refuse(c, "topk_method", "noaux_tc")
    refuse(c, "moe_layer_freq", 1)
    norm = rms(c)
    mixers = [
        attention(c, s, kind, window=window_of(c, kind), qk_norm=norm, qkv_bias=bias, out_bias=bias) for kind in kinds
    ]
    whole = routed(c, mixers, first=0, eps=1e-6, renorm=False)
    stacked = rename_in_layer(r"mlp\.experts\.(gate|up|down)_proj", r"ffn.experts.\2")
    return replace(whole, rules=(stacked, *whole.rules)) if c.dialect == "mlx" else whole


def routed(
    c: Config,
    mixers: Sequence[Attention],
    *,
    first: int,
    eps: float = 1e-5,
    renorm: bool = True,
    shared: str = "n_shared_experts",
) -> Recipe:
    """`first` layers are dense, and the router's weights sum to one, where the file is silent."""
    s, norm, tied_head = sizes_of(c), rms(c, eps), tied(c)
    experts = moe(c, sigmoid_router(c, renorm=renorm), shared=shared_experts(c, shared))
    sparse = sparse_kinds(c, s.layers, first)
    dense = None if all(sparse) else gated(c)
    c.ignore("intermediate_size")  # where no layer is dense
    ffns: list[FeedForward | None] = [experts if yes else dense for yes in sparse]
    names = (*router_rules(), *shared_rules(), *experts_of(c), *head_rules(tied_head), *NAMES, *PRE)
    whole = decoder(c, s, pre_norm_layers(norm, mixers, ffns), norm, tied_head)
    found = Recipe(whole, (*prediction_rules(c, s.layers), *names))
    return replace(found, further=layer_after_last(found, norm))
