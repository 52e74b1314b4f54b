"""StableLM: LayerNorms, a quarter of each head turned; the largest has norms of each head's own, one a layer."""

from __future__ import annotations

from dataclasses import replace

from ..spec import Layer
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    layer_norm,
    sizes_of,
    tied,
)
from .config import Config
from .rope import rope_of
from .rules import Rename, Rule, Stack


def stablelm(c: Config) -> Recipe:
    c.ignore("rope_pct", "rotary_scaling_factor", "norm_eps")
    s, norm, tied_head = sizes_of(c), layer_norm(c), tied(c)
    each = replace(norm, bias=False) if c.flag("qk_layernorm") else None
    mixer = attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, partial=0.25),
        qk_norm=each,
        qk_norm_scope="each",
        qkv_bias=c.flag("use_qkv_bias"),
    )
    if c.flag("use_parallel_residual"):
        layer = Layer(mixer, gated(c), mixer_norm=norm, wiring="parallel")
    else:
        layer = Layer(mixer, gated(c), mixer_norm=norm, ffn_norm=norm)
    return Recipe(
        decoder(c, s, [layer] * s.layers, norm, tied_head), (*_head_norms(c), *head_rules(tied_head), *NAMES, *PRE)
    )


def _head_norms(c: Config) -> tuple[Rule, ...]:
    """A norm of each head is a tensor; in mlx files they are so too."""
    at = LAYER + r"self_attn\.(q|k)_layernorm\."
    return (
        Stack(at + r"norms\.(?P<e>\d+)\.weight$", r"layers.\1.mixer.\2_norm.weight"),
        Rename(at + r"weight$", r"layers.\1.mixer.\2_norm.weight"),
    )
