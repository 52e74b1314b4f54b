"""MiniMax M2: norms over whole query and key projections, half of each head turned, a sigmoid router with a bias."""

from __future__ import annotations

from ..spec import Router
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    head_rules,
    pre_norm_layers,
    rms,
    sizes_of,
    tied,
)
from .config import Config
from .moe import experts_of, moe, refuse, router_rules, top_k
from .rope import rope_of
from .rules import Drop, Rename


def minimax_m2(c: Config) -> Recipe:
    for key, always in {"scoring_func": "sigmoid", "use_qk_norm": True, "qk_norm_type": "per_layer"}.items():
        refuse(c, key, always)
    refuse(c, "use_routing_bias", True)
    refuse(c, "shared_intermediate_size", 0)
    kinds = c.get("attn_type_list", [1])
    refuse(c, "attn_type_list", kinds if isinstance(kinds, list) and set(kinds) == {1} else None)
    c.ignore("router_jitter_noise", "use_mtp", "num_mtp_modules", "mtp_transformer_layers", "mlp_intermediate_size")
    s, norm, tied_head = sizes_of(c), rms(c), tied(c)
    partial = c.count("rotary_dim", s.head_dim, high=s.head_dim) / s.head_dim
    mixer = attention(c, s, rope=rope_of(c, s.head_dim, base=5e6, partial=partial), qk_norm=norm, qk_norm_scope="all")
    experts = moe(c, Router(top_k(c), "sigmoid", renorm=True, select_bias=True), "intermediate_size")
    block = r"(?:block_sparse_moe|mlp)"
    rules = (
        Drop(r"^(?:model\.)?mtp", "multi-token prediction"),
        Rename(LAYER + block + r"\.e_score_correction_bias$", r"layers.\1.ffn.select_bias"),
        *router_rules(block),
        *experts_of(c, block, "w1 w3 w2"),
        *head_rules(tied_head),
        *NAMES,
        *PRE,
    )
    return Recipe(
        decoder(c, s, pre_norm_layers(norm, [mixer] * s.layers, [experts] * s.layers), norm, tied_head), rules
    )
