"""ERNIE 4.5: Llama whose rope turns neighbours, with one switch for all biases; large ones have experts.

A bias that only chooses is stored as one row.
"""

from __future__ import annotations

from ..spec import FeedForward, ModelError, Router
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    layers_of,
    pre_norm_layers,
    rms,
    sizes_of,
    tied,
)
from .config import Config
from .llama import Silent, llama_like
from .moe import experts_of, moe, refuse, router_rules, shared_experts, shared_rules, top_k
from .rope import rope_of
from .rules import Drop, Flatten, Rename, Rule

_BASE = 500_000.0


def ernie4_5(c: Config) -> Recipe:
    bias = c.flag("use_bias")
    silent = Silent(base=_BASE, interleaved=True, eps=1e-5, tied=True)
    return llama_like(c, ("full_attention",) * layers_of(c), silent, mlp_bias=bias, qkv_bias=bias, out_bias=bias)


def ernie4_5_moe(c: Config) -> Recipe:
    """A softmax router whose bias chooses; chosen weights are made to sum to one."""
    if c.dialect == "mlx":
        raise ModelError(
            f"{c.file}: an mlx checkpoint of {c.family} has lost the biases that choose its experts, so its answers "
            f"are wrong; take the original checkpoint."
        )
    c.ignore("moe_norm_min", "moe_capacity", "moe_use_aux_free")  # under what renorming ever meets; training
    for key, always in {"moe_gate": "topk", "moe_gate_act": "softmax"}.items():
        refuse(c, key, always)
    s, norm, tied_head, bias = sizes_of(c), rms(c, 1e-5), tied(c, True), c.flag("use_bias")
    rope = rope_of(c, s.head_dim, interleaved=True, base=_BASE)
    mixer = attention(c, s, rope=rope, qkv_bias=bias, out_bias=bias)
    router = Router(top_k(c), renorm=True, select_bias=True)
    shared = shared_experts(c, "moe_num_shared_experts", bias=bias)
    dense, experts = gated(c, bias=bias), moe(c, router, shared=shared)
    ffns: list[FeedForward] = [experts if yes else dense for yes in _sparse_layers(c, s.layers)]
    whole = decoder(c, s, pre_norm_layers(norm, [mixer] * s.layers, ffns), norm, tied_head, head_bias=bias)
    return Recipe(whole, (*_rules(c), *head_rules(tied_head), *NAMES, *PRE))


def _sparse_layers(c: Config, layers: int) -> list[bool]:
    first, period = c.count("moe_layer_start_index", 1, low=0), c.count("moe_layer_interval", 1)
    last = c.count("moe_layer_end_index", -1, low=-1)
    last = layers - 1 if last == -1 else last
    return [first <= i <= last and (i + 1) % period == 0 for i in range(layers)]


def _rules(c: Config) -> tuple[Rule, ...]:
    statics = LAYER + r"mlp\.(?:gate\.)?moe_statics\.e_score_correction_bias$"
    c.ignore("num_nextn_predict_layers")
    return (
        Drop(r"^(?:model\.)?mtp_", "multi-token prediction"),
        Flatten(statics, r"layers.\1.ffn.select_bias"),
        *router_rules(),
        *shared_rules(),
        *experts_of(c),
        Rename(r"^lm_head\.bias$", "head.bias"),
    )
