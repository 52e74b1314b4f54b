"""Llama 4: three layers of chunked attention with positions, then one over everything without.

The router's weight multiplies an expert's input. Experts are stored inputs first, gate beside up.
"""

from __future__ import annotations

from dataclasses import replace

from ..spec import Attention, Dense, FeedForward, ModelError, Router, Temperature
from .common import (
    LAYER,
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
)
from .config import Config
from .moe import moe, router_rules, shared_rules, top_k
from .rope import rope_of
from .rules import Rule, Split, Transpose

_CHUNK, _FULL = "chunked_attention", "full_attention"


def llama4_text(c: Config) -> Recipe:
    c.ignore("router_jitter_noise", "for_llm_compressor")
    s, norm, tied_head = sizes_of(c), rms(c, 1e-5), tied(c)
    turns = _turning(c, s.layers)
    kinds = layer_types(c, s.layers, lambda i: _CHUNK if turns[i] else _FULL, (_CHUNK, _FULL))
    mixers = [_attention(c, s, kind, turn) for kind, turn in zip(kinds, turns, strict=True)]
    shared = gated(c)
    dense: Dense = gated(c, hidden="intermediate_size_mlp")
    experts = moe(c, Router(top_k(c), "sigmoid"), "intermediate_size", shared=shared, scale_input=True)
    sparse = _sparse(c, s.layers)
    ffns: list[FeedForward] = [experts if i in sparse else dense for i in range(s.layers)]
    rules: tuple[Rule, ...] = (
        *router_rules("feed_forward", "router"),
        *shared_rules("feed_forward"),
        *_expert_rules(c),
        rename_in_layer(r"feed_forward\.(gate|up|down)_proj", r"ffn.\2"),
        *head_rules(tied_head),
        *NAMES,
        *PRE,
    )
    return Recipe(decoder(c, s, pre_norm_layers(norm, mixers, ffns), norm, tied_head), rules)


def _turning(c: Config, layers: int) -> tuple[bool, ...]:
    """Which layers have positions; the file calls that list no_rope_layers."""
    period = c.count("no_rope_layer_interval", 4)
    written = c.get("no_rope_layers") or [int((i + 1) % period != 0) for i in range(layers)]
    if not isinstance(written, list) or len(written) < layers:
        raise ModelError(f"{c.file}: no_rope_layers must list a 0 or 1 for each of the {layers} layers.")
    return tuple(bool(x) for x in written[:layers])


def _attention(c: Config, s: Sizes, kind: str, turns: bool) -> Attention:
    """Layers with positions norm what they have turned; the others sharpen with distance."""
    bias, normed = c.flag("attention_bias"), c.flag("use_qk_norm", True)
    tempered = bool(c.get("attn_temperature_tuning", True))  # published files write 4 and mean true
    beta, floor = c.number("attn_scale", 0.1), c.number("floor_scale", 8192.0)
    chunk = c.count("attention_chunk_size") if "attention_chunk_size" in c else None
    norm = replace(rms(c, 1e-5), weight=False) if normed and turns else None
    return attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, interleaved=True, base=500_000.0) if turns else None,
        chunk=chunk if kind == _CHUNK else None,
        qk_norm=norm,
        qk_norm_after_rope=norm is not None,
        qkv_bias=bias,
        out_bias=bias,
        temperature=Temperature(beta, floor, shift=1) if tempered and not turns else None,
    )


def _sparse(c: Config, layers: int) -> tuple[int, ...]:
    """The numbers of the layers with experts: all in Scout, every second in Maverick."""
    step, written = c.count("interleave_moe_layer_step", 1), c.get("moe_layers")
    if written is None:
        return tuple(range(step - 1, layers, step))
    if not isinstance(written, list) or not all(isinstance(i, int) for i in written):
        raise ModelError(f"{c.file}: moe_layers must be a list of layer numbers, not {written!r}.")
    return tuple(written)


def _expert_rules(c: Config) -> tuple[Rule, ...]:
    if c.dialect == "mlx":
        return (rename_in_layer(r"feed_forward\.experts\.(gate|up|down)_proj", r"ffn.experts.\2"),)
    block, ours = LAYER + r"feed_forward\.experts\.", r"layers.\1.ffn.experts."
    return (
        Transpose(block + "gate_up_proj$", ours + "gate_up.weight"),
        Split(r"^layers\.(\d+)\.ffn\.experts\.gate_up\.weight$", (ours + "gate.weight", ours + "up.weight"), axis=-2),
        Transpose(block + "down_proj$", ours + "down.weight"),
    )
