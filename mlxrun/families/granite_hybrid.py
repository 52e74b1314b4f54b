"""Granite 4: Mamba 2 layers with a few of attention, mostly without positions; experts, or one dense network."""

from __future__ import annotations

from ..spec import Dense, FeedForward, Layer, Mixer, Router
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    expert_rules,
    gated,
    head_rules,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
)
from .config import Config
from .moe import moe, top_k
from .recurrent import kinds_of, mamba2, mamba_rules
from .rope import rope_of
from .rules import Rename, Rule, Split

_MAMBA, _FULL = "linear_attention", "full_attention"


def granitemoehybrid(c: Config) -> Recipe:
    c.ignore("mamba_chunk_size", "normalization_function", "init_method")
    s, norm, tied_head = sizes_of(c), rms(c), tied(c)
    turns = c.choice("position_embedding_type", {"rope": True, "nope": False}, "nope")
    c.ignore("rope_theta", "rope_scaling", "rope_parameters")  # still written where there are no positions
    bias = c.flag("attention_bias")
    full = attention(
        c,
        s,
        rope=rope_of(c, s.head_dim) if turns else None,
        scale=c.number("attention_multiplier", 1.0),
        qkv_bias=bias,
        out_bias=bias,
    )
    kinds = kinds_of(c, s.layers, lambda i: _MAMBA, (_MAMBA, _FULL))
    ffn, rules = _ffn(c)
    mixers: dict[str, Mixer] = {_FULL: full}
    if _MAMBA in kinds:
        mixers[_MAMBA] = mamba2(c, s.dim, norm)
    else:
        c.ignore(*(key for key in c.data if key.startswith(("mamba_", "time_step_"))))
    residual = c.number("residual_multiplier", 1.0)
    layers = [Layer(mixers[kind], ffn, mixer_norm=norm, ffn_norm=norm, residual=residual) for kind in kinds]
    whole = decoder(
        c,
        s,
        layers,
        norm,
        tied_head,
        embed_scale=c.number("embedding_multiplier", 1.0),
        logit_scale=1.0 / c.number("logits_scaling", 1.0, above=0),
    )
    return Recipe(whole, (*mamba_rules("mamba"), *rules, *head_rules(tied_head), *NAMES, *PRE))


def _ffn(c: Config) -> tuple[FeedForward, tuple[Rule, ...]]:
    """Experts beside a shared network, or without experts the shared network alone."""
    shared: Dense = gated(c, hidden="shared_intermediate_size")
    if c.count("num_experts", 8, low=0):
        router = Router(top_k(c), "softmax_topk")
        return moe(c, router, "intermediate_size", shared=shared), (*fused_experts(c), *_dense_rules("ffn.shared"))
    c.ignore("num_experts_per_tok", "intermediate_size")
    return shared, _dense_rules("ffn")


def _dense_rules(dst: str) -> tuple[Rule, ...]:
    halves = (rf"layers.\1.{dst}.gate.weight", rf"layers.\1.{dst}.up.weight")
    return (
        Split(LAYER + r"shared_mlp\.input_linear\.weight$", halves),
        rename_in_layer(r"shared_mlp\.output_linear", f"{dst}.down"),
    )


def fused_experts(c: Config) -> tuple[Rule, ...]:
    block, ours = LAYER + r"block_sparse_moe\.", r"layers.\1.ffn.experts."
    halves = (ours + "gate.weight", ours + "up.weight")
    router = Rename(block + r"router\.(?:layer\.)?weight$", r"layers.\1.ffn.router.weight")
    if c.dialect == "mlx":
        return (router, *expert_rules(c, "block_sparse_moe"))
    return (
        router,
        Split(block + r"(?:input_linear\.weight|experts\.gate_up_proj)$", halves, axis=-2),
        Rename(block + r"(?:output_linear\.weight|experts\.down_proj)$", ours + "down.weight"),
    )
