"""Gemma 1 to 3: zero-centred norms, scaled embeddings, tanh-GELU; from 2 on norms on both sides of a branch.

The stored norm weights are one less than what is multiplied, in the hf and mlx dialects alike.
"""

from __future__ import annotations

from dataclasses import replace

from ..spec import Activation, Attention, Dense, Layer, Norm, Rope
from .common import (
    ACTIVATIONS,
    NAMES,
    PRE,
    SANDWICH,
    Recipe,
    Sizes,
    attention,
    cap_of,
    decoder,
    head_rules,
    layer_types,
    pre_norm_layers,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .rope import rope_from, rope_of, rope_parameters


def gemma_activation(c: Config) -> Activation:
    """`hidden_activation` counts; `hidden_act` stands beside it and says "gelu" in early files, wrongly."""
    c.ignore("hidden_act")
    found: Activation = ACTIVATIONS["gelu_pytorch_tanh"]
    return c.choice("hidden_activation", ACTIVATIONS) if "hidden_activation" in c else found


def gemma(c: Config) -> Recipe:
    s, norm, tied_head, bias = sizes_of(c), rms(c, offset=1.0), tied(c, True), c.flag("attention_bias")
    c.ignore("use_bidirectional_attention")
    mixer = attention(c, s, qkv_bias=bias, out_bias=bias)
    dense = Dense(c.count("intermediate_size"), gemma_activation(c))
    layers = pre_norm_layers(norm, [mixer] * s.layers, [dense] * s.layers)
    whole = decoder(c, s, layers, norm, tied_head, embed_scale=s.dim**0.5)
    return Recipe(whole, (*head_rules(tied_head), *NAMES, *PRE))


def gemma2(c: Config) -> Recipe:
    """Every other layer slides; attention scores and logits are soft-capped."""
    s = sizes_of(c)
    kinds = layer_types(c, s.layers, lambda i: "full_attention" if i % 2 else "sliding_attention")
    cap = cap_of(c, "attn_logit_softcapping", 50.0)
    mixers = {kind: replace(_attention(c, s, kind, rope_of(c, s.head_dim, kind)), softcap=cap) for kind in kinds}
    return _sandwich(c, s, [mixers[kind] for kind in kinds], 30.0)


def gemma3_text(c: Config) -> Recipe:
    """Five sliding layers to a full one, each kind with its own rope; norms on query and key heads.

    With `use_bidirectional_attention` it is an embedding model: an encoder that sees both ways.
    """
    s, norm = sizes_of(c), rms(c, offset=1.0)
    period = c.count("sliding_window_pattern", 6)
    kinds = layer_types(c, s.layers, lambda i: "sliding_attention" if (i + 1) % period else "full_attention")
    both_ways = c.flag("use_bidirectional_attention")
    mixers = {kind: replace(_attention(c, s, kind, _rope3(c, s, kind)), qk_norm=norm) for kind in kinds}
    if both_ways:  # half the window to each side
        mixers = {k: replace(m, causal=False, window=m.window and m.window // 2) for k, m in mixers.items()}
    found = _sandwich(c, s, [mixers[kind] for kind in kinds], None)
    return replace(found, decoder=replace(found.decoder, kind="encoder")) if both_ways else found


def _attention(c: Config, s: Sizes, kind: str, rope: Rope) -> Attention:
    bias, scale = c.flag("attention_bias"), c.number("query_pre_attn_scalar", 256.0, above=0) ** -0.5
    return attention(c, s, rope=rope, scale=scale, window=window_of(c, kind, 4096), qkv_bias=bias, out_bias=bias)


def _rope3(c: Config, s: Sizes, kind: str) -> Rope:
    """Older files write the local base beside the global one, and scale the global one only."""
    if kind == "sliding_attention":
        p = rope_parameters(c, kind, base_key="rope_local_base_freq", scaled=False)
    else:
        p = rope_parameters(c, kind, 1e6)
    return rope_from(c, p, s.head_dim)


def _sandwich(c: Config, s: Sizes, mixers: list[Attention], final_cap: float | None) -> Recipe:
    norm, tied_head = rms(c, offset=1.0), tied(c, True)
    dense = Dense(c.count("intermediate_size"), gemma_activation(c))
    layers = [sandwich_layer(norm, mixer, dense) for mixer in mixers]
    cap = cap_of(c, "final_logit_softcapping", final_cap)
    whole = decoder(c, s, layers, norm, tied_head, embed_scale=s.dim**0.5, logit_softcap=cap)
    return Recipe(whole, (*head_rules(tied_head), *NAMES, *SANDWICH))


def sandwich_layer(norm: Norm, mixer: Attention, dense: Dense) -> Layer:
    return Layer(mixer, dense, mixer_norm=norm, mixer_post=norm, ffn_norm=norm, ffn_post=norm)
