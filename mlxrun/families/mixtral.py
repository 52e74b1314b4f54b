"""Mixtral and Phi-3.5-MoE: experts called w1, w3 and w2 under block_sparse_moe."""

from __future__ import annotations

from ..spec import Router
from .common import (
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    head_rules,
    layer_norm,
    pre_norm_layers,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .moe import experts_of, moe, router_rules, top_k
from .rope import rope_of
from .rules import Rename, Rule


def mixtral(c: Config) -> Recipe:
    """Top experts of a softmax, their weights made to sum to one."""
    c.ignore("router_jitter_noise")  # training
    router = Router(top_k(c), renorm=True)
    return _sparse(c, router, bias=False)


def phimoe(c: Config) -> Recipe:
    """Sparsemixer routing, LayerNorms, biases; the head's bias is optional."""
    c.ignore("input_jitter_noise")  # training
    router = Router(top_k(c), "sparsemixer", jitter=c.number("router_jitter_noise", 0.01))
    return _sparse(c, router, bias=c.flag("attention_bias"))


def _sparse(c: Config, router: Router, *, bias: bool) -> Recipe:
    s, tied_head, phi = sizes_of(c), tied(c), router.score == "sparsemixer"
    norm = layer_norm(c, key="rms_norm_eps") if phi else rms(c, 1e-5)
    slides = c.get("sliding_window") is not None  # then every layer does
    mixer = attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, base=1e6),
        window=window_of(c, "sliding_attention" if slides else "full_attention"),
        qkv_bias=bias,
        out_bias=bias,
    )
    layers = pre_norm_layers(norm, [mixer] * s.layers, [moe(c, router, "intermediate_size")] * s.layers)
    head_bias = c.flag("lm_head_bias") if phi else False
    return Recipe(
        decoder(c, s, layers, norm, tied_head, head_bias=head_bias),
        (*_block_rules(c), *_head(tied_head), *NAMES, *PRE),
    )


def _block_rules(c: Config) -> tuple[Rule, ...]:
    """The block is `mlp` in newer files, and its router `router`."""
    block = r"(?:block_sparse_moe|mlp)"
    return (*router_rules(block, "(?:gate|router)"), *experts_of(c, block, "w1 w3 w2"))


def _head(tied_head: bool) -> tuple[Rule, ...]:
    """A tied head may have a bias of its own."""
    return (Rename(r"^lm_head\.bias$", "head.bias"), *head_rules(tied_head))
