"""Laguna: attention whose heads, window and rope vary by layer, a gate for every head, DeepSeek's router."""

from __future__ import annotations

from dataclasses import replace

from ..spec import Attention, FeedForward, ModelError, Router
from .common import (
    NAMES,
    PRE,
    Recipe,
    Sizes,
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
from .moe import experts_of, moe, refuse, router_rules, shared_rules, top_k
from .qwen_moe import sparse_layers
from .rope import rope_of
from .rules import Rename, Rule

_SLIDE, _FULL = "sliding_attention", "full_attention"
_ROPE = {_FULL: (500_000.0, 0.5), _SLIDE: (10_000.0, 1.0)}  # base and rotated part where the file is silent


def laguna(c: Config) -> Recipe:
    refuse(c, "moe_router_logit_softcapping", 0)
    refuse(c, "moe_apply_router_weight_on_input", False)
    refuse(c, "moe_router_score_func", "sigmoid")
    refuse(c, "gating", True, "per-head")
    s, norm, tied_head = sizes_of(c), rms(c), tied(c)
    kinds = layer_types(c, s.layers, lambda i: _FULL)
    mixers = [_attention(c, s, kind, heads) for kind, heads in zip(kinds, _heads(c, s), strict=True)]
    router = Router(
        top_k(c),
        "sigmoid",
        renorm=c.flag("norm_topk_prob", True),
        scale=c.number("moe_routed_scaling_factor", 1.0),
        select_bias=True,
    )
    experts = moe(c, router, shared=gated(c, hidden="shared_expert_intermediate_size"))
    dense = gated(c)
    ffns: list[FeedForward] = [experts if yes else dense for yes in _sparse_layers(c, s.layers)]
    rules: tuple[Rule, ...] = (
        Rename(r"^language_model\.", ""),  # repacked files
        rename_in_layer(r"self_attn\.g_proj", "mixer.gate"),
        *router_rules(name=r"gate(?:\.proj)?"),
        *shared_rules(),
        *experts_of(c),
        *head_rules(tied_head),
        *NAMES,
        *PRE,
    )
    return Recipe(decoder(c, s, pre_norm_layers(norm, mixers, ffns), norm, tied_head), rules)


def _attention(c: Config, s: Sizes, kind: str, heads: int) -> Attention:
    bias, (base, partial) = c.flag("attention_bias"), _ROPE[kind]
    return attention(
        c,
        replace(s, heads=heads),
        rope=rope_of(c, s.head_dim, kind, base=base, partial=partial),
        window=window_of(c, kind),
        qk_norm=rms(c),
        qkv_bias=c.flag("qkv_bias", bias),
        out_bias=bias,
        gate="head_softplus",
    )


def _heads(c: Config, s: Sizes) -> tuple[int, ...]:
    written = c.get("num_attention_heads_per_layer")
    if written is None:
        return (s.heads,) * s.layers
    fits = isinstance(written, list) and len(written) == s.layers
    if not fits or not all(isinstance(n, int) and 0 < n <= 1 << 14 and n % s.kv_heads == 0 for n in written):
        raise ModelError(
            f"{c.file}: num_attention_heads_per_layer must list, for each of the {s.layers} layers, "
            f"a multiple of num_key_value_heads {s.kv_heads}."
        )
    return tuple(written)


def _sparse_layers(c: Config, layers: int) -> tuple[bool, ...]:
    """Said in a list of types, or in Qwen's words; all but the first where neither is there."""
    written = c.get("mlp_layer_types")
    if written is None:
        return sparse_layers(c, layers) if "mlp_only_layers" in c else (False,) + (True,) * (layers - 1)
    c.ignore("mlp_only_layers", "decoder_sparse_step")
    if not isinstance(written, list) or len(written) != layers or not set(written) <= {"dense", "sparse"}:
        raise ModelError(f"{c.file}: mlp_layer_types must list dense or sparse for each of the {layers} layers.")
    return tuple(kind == "sparse" for kind in written)
