"""Jamba: Mamba layers with a norm on step, B and C, a few of attention without positions, experts in every second."""

from __future__ import annotations

from ..spec import FeedForward, Mixer, ModelError, Router
from .common import (
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
    tied,
)
from .config import Config
from .moe import experts_of, moe, router_rules, top_k
from .recurrent import mamba1, mamba_rules
from .rules import Rename


def jamba(c: Config) -> Recipe:
    c.ignore("use_mamba_kernels", "use_mambapy", "use_associative_scan")
    c.ignore("num_logits_to_keep", "calc_logits_for_entire_prompt", "sliding_window")
    s, norm, tied_head = sizes_of(c), rms(c), tied(c)
    inner = c.flag("mamba_inner_layernorms", True)
    mamba = mamba1(c, c.count("mamba_expand", 2, high=64) * s.dim, "mamba_", norm if inner else None)
    full = attention(c, s, rope=None)
    attends = _every(c, "attn_layer", 8, 4, s.layers)
    mixers: list[Mixer] = [full if yes else mamba for yes in attends]
    dense = gated(c)
    sparse = _every(c, "expert_layer", 2, 1, s.layers)
    many = c.count("num_experts", 16) > 1
    router = Router(top_k(c))  # the softmax's weights stay as they are
    experts = moe(c, router, "intermediate_size") if many else dense
    ffns: list[FeedForward] = [experts if yes else dense for yes in sparse]
    rules = (
        *mamba_rules("mamba"),
        *router_rules("feed_forward", "router"),
        *experts_of(c, "feed_forward"),
        rename_in_layer(r"feed_forward\.(gate|up|down)_proj", r"ffn.\2"),
        rename_in_layer("pre_ff_layernorm", "ffn_norm"),
        Rename(r"^(?:model\.)?final_layernorm\.", "norm."),
        *head_rules(tied_head),
        *NAMES,
        *PRE,
    )
    return Recipe(decoder(c, s, pre_norm_layers(norm, mixers, ffns), norm, tied_head), rules)


def _every(c: Config, what: str, period: int, offset: int, layers: int) -> tuple[bool, ...]:
    period, offset = c.count(f"{what}_period", period), c.count(f"{what}_offset", offset, low=0)
    if offset >= period:
        raise ModelError(f"{c.file}: {what}_offset {offset} must be less than {what}_period {period}.")
    return tuple(i % period == offset for i in range(layers))
