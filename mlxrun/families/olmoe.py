"""OLMoE: a norm over all queries and all keys before they are clipped; the softmax's weights stay as they are."""

from __future__ import annotations

from ..spec import Router
from .common import NAMES, PRE, Recipe, attention, decoder, head_rules, pre_norm_layers, rms, sizes_of, tied
from .config import Config
from .moe import experts_of, moe, router_rules, top_k


def olmoe(c: Config) -> Recipe:
    s, norm, tied_head = sizes_of(c), rms(c, 1e-5), tied(c)
    bias = c.flag("attention_bias")
    mixer = attention(
        c,
        s,
        qk_norm=norm,
        qk_norm_scope="all",
        clip=c.number("clip_qkv") if "clip_qkv" in c else None,
        qkv_bias=bias,
        out_bias=bias,
    )
    experts = moe(c, Router(top_k(c), renorm=c.flag("norm_topk_prob")), "intermediate_size")
    layers = pre_norm_layers(norm, [mixer] * s.layers, [experts] * s.layers)
    rules = (*router_rules(), *experts_of(c), *head_rules(tied_head), *NAMES, *PRE)
    return Recipe(decoder(c, s, layers, norm, tied_head), rules)
