"""Ling and Ring (Bailing), 1 and 2: one projection for queries, keys and values, experts beside a shared network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..spec import FeedForward, Router
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
    split_qkv,
    tied,
)
from .config import Config
from .moe import WIDEST, experts_of, moe, prediction_rules, refuse, router_rules, shared_rules, sparse_kinds, top_k
from .rope import rope_of
from .rules import Rename, Rule

_QKV = r"attention\.query_key_value"


def bailing_moe(c: Config) -> Recipe:
    """The second generation scores experts by a sigmoid, and chooses them with a bias and by groups."""
    for key, always in {"norm_softmax": False, "use_rmsnorm": True, "router_dtype": "fp32", "use_bias": False}.items():
        refuse(c, key, always)
    if c.dialect != "mlx":  # whose head is normed already
        refuse(c, "norm_head", False)
    c.ignore("norm_head")
    c.ignore("output_dropout", "max_window_layers", "mtp_loss_scaling_factor", "aux_loss_alpha")
    s, norm, tied_head = sizes_of(c), rms(c), tied(c)
    partial = c.count("rotary_dim", high=s.head_dim) / s.head_dim if "rotary_dim" in c else 1.0
    mixer = attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, partial=partial),
        qk_norm=norm if c.flag("use_qk_norm") else None,
        qkv_bias=c.flag("use_qkv_bias"),
    )
    sparse = sparse_kinds(c, s.layers, 0)
    experts = moe(c, _router(c), shared=_shared(c))
    ffns: Sequence[FeedForward] = [experts if yes else gated(c) for yes in sparse]
    c.ignore("intermediate_size", "num_nextn_predict_layers")
    whole = decoder(c, s, pre_norm_layers(norm, [mixer] * s.layers, ffns), norm, tied_head)
    return Recipe(whole, (*prediction_rules(c, s.layers), *_rules(c, tied_head), split_qkv(s, _QKV), *NAMES, *PRE))


def _router(c: Config) -> Router:
    bias, groups, top_groups = c.flag("moe_router_enable_expert_bias"), c.count("n_group", 1), c.count("topk_group", 1)
    scaled = c.flag("moe_router_enable_routed_scaling", True)
    return Router(
        top_k(c),
        c.choice("score_function", {"softmax": "softmax", "sigmoid": "sigmoid"}, "softmax"),
        renorm=c.flag("norm_topk_prob", True) and top_k(c) > 1,
        scale=c.number("routed_scaling_factor", 1.0) if scaled else 1.0,
        select_bias=bias,
        groups=groups,
        top_groups=top_groups if groups > 1 else 1,
    )


def _shared(c: Config) -> Any:
    number = c.count("num_shared_experts", low=0, high=1 << 10)
    width = c.count("moe_shared_expert_intermediate_size", c.count("moe_intermediate_size", high=WIDEST), high=WIDEST)
    if not number or not c.flag("moe_router_enable_shared_expert", True):
        return None
    return gated(Config({**c.data, "intermediate_size": number * width}, file=c.file))


def _rules(c: Config, tied_head: bool) -> tuple[Rule, ...]:
    return (
        Rename(r"^(?:model\.)?word_embeddings\.", "embed."),
        *router_rules(name=r"gate\.gate_proj" if c.dialect == "mlx" else "gate"),
        Rename(LAYER + r"mlp\.gate\.expert_bias$", r"layers.\1.ffn.select_bias"),
        *shared_rules(),
        *experts_of(c),
        rename_in_layer(r"attention\.(q|k)(?:uery|ey)_layernorm", r"mixer.\2_norm"),
        rename_in_layer(r"attention\.dense", "mixer.o"),
        *head_rules(tied_head),
    )
