"""Llama and its kin: pre-norm RMSNorm, grouped-query attention, gated feed-forward.

Whether projections carry biases is a fact of the family or of its config, never read off the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..spec import ModelError, Temperature
from .common import (
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    layer_types,
    layers_of,
    pre_norm_layers,
    rms,
    sizes_of,
    tied,
    window_of,
    with_attention,
)
from .config import Config
from .rope import rope_of, rope_parameters


@dataclass(frozen=True, slots=True)
class Silent:
    """What a family assumes, or its file never says."""

    base: float = 10_000.0  # of the rope
    interleaved: bool = False  # which pairs it turns
    eps: float = 1e-6
    window: int | None = None
    tied: bool = False


def llama_like(
    c: Config, kinds: tuple[str, ...], silent: Silent = Silent(), *, mlp_bias: bool = False, **changes: Any
) -> Recipe:
    """The shape all of them share; `kinds` is the type of each layer, `changes` go to the attention."""
    s, norm, tied_head = sizes_of(c), rms(c, silent.eps), tied(c, silent.tied)
    mixers = {
        kind: attention(
            c,
            s,
            rope=rope_of(c, s.head_dim, kind, silent.interleaved, base=silent.base),
            window=window_of(c, kind, silent.window),
            **changes,
        )
        for kind in set(kinds)
    }
    layers = pre_norm_layers(norm, [mixers[kind] for kind in kinds], [gated(c, bias=mlp_bias)] * s.layers)
    return Recipe(decoder(c, s, layers, norm, tied_head), (*head_rules(tied_head), *NAMES, *PRE))


def llama(c: Config) -> Recipe:
    c.ignore("pretraining_tp")
    kinds = layer_types(c, layers_of(c), lambda i: "full_attention", ("full_attention",))
    bias = c.flag("attention_bias")
    return llama_like(c, kinds, qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"))


def mistral(c: Config) -> Recipe:
    """Every layer slides where a window is written: v0.1, and files that do not mention it."""
    slides = c.get("sliding_window") is not None or "sliding_window" not in c.data
    c.ignore("layer_types")  # the reference does not read it either
    return llama_like(
        c, ("sliding_attention" if slides else "full_attention",) * layers_of(c), silent=Silent(window=4096)
    )


def ministral(c: Config) -> Recipe:
    usual = "full_attention" if c.get("sliding_window") is None else "sliding_attention"
    return llama_like(c, layer_types(c, layers_of(c), lambda i: usual))


def ministral3(c: Config) -> Recipe:
    """Queries grow with the logarithm of their position beyond the trained length."""
    c.ignore("layer_types")
    p = rope_parameters(c)
    beta, floor = p.get("llama_4_scaling_beta"), p.get("original_max_position_embeddings")
    temperature = None
    if beta is not None:
        if not isinstance(floor, int):
            raise ModelError(f"{c.file}: llama_4_scaling_beta needs original_max_position_embeddings beside it.")
        temperature = Temperature(float(beta), float(floor))
    kind = "full_attention" if c.get("sliding_window") is None else "sliding_attention"
    return llama_like(c, (kind,) * layers_of(c), Silent(eps=1e-5), temperature=temperature)


def qwen2(c: Config) -> Recipe:
    """Biases on q, k and v."""
    return llama_like(c, qwen_kinds(c), qkv_bias=True)


def qwen3(c: Config) -> Recipe:
    """Qwen 2 without those biases, with a norm on every query and key head."""
    bias = c.flag("attention_bias")
    return llama_like(c, qwen_kinds(c), qk_norm=rms(c), qkv_bias=bias, out_bias=bias)


def qwen_kinds(c: Config) -> tuple[str, ...]:
    """Windows, if used at all, begin at layer max_window_layers."""
    slides, first = c.flag("use_sliding_window"), c.count("max_window_layers", 28, low=0)
    slides = c.get("sliding_window") is not None and slides
    return layer_types(c, layers_of(c), lambda i: "sliding_attention" if slides and i >= first else "full_attention")


def smollm3(c: Config) -> Recipe:
    """Every fourth layer has no positions."""
    layers = layers_of(c)
    c.ignore("max_window_layers")  # carried along from Qwen; never read
    period = c.count("no_rope_layer_interval", 4)
    turns = c.get("no_rope_layers") or [int((i + 1) % period != 0) for i in range(layers)]
    if not isinstance(turns, list) or len(turns) != layers:
        raise ModelError(f"{c.file}: no_rope_layers must list a 0 or 1 for each of the {layers} layers.")
    slides = c.flag("use_sliding_window") and c.get("sliding_window") is not None
    kinds = layer_types(c, layers, lambda i: "sliding_attention" if slides and not turns[i] else "full_attention")
    bias = c.flag("attention_bias")
    whole = llama_like(c, kinds, Silent(base=2e6, tied=True), mlp_bias=c.flag("mlp_bias"), qkv_bias=bias, out_bias=bias)
    return with_attention(whole, lambda i, a: a if turns[i] else replace(a, rope=None))
