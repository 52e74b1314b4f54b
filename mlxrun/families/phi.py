"""Phi 1 and 2 (parallel, LayerNorm, biases everywhere) and Phi 3 and 4 (Llama with fused projections)."""

from __future__ import annotations

from ..spec import Dense, Layer, ModelError
from .common import (
    NAMES,
    PRE,
    Recipe,
    activation,
    attention,
    decoder,
    gated,
    head_rules,
    layer_norm,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
    split_gate_up,
    split_qkv,
    tied,
    window_of,
)
from .config import Config
from .rope import rope_from, rope_of, rope_parameters
from .rules import Rename


def phi(c: Config) -> Recipe:
    """One norm feeds attention and feed-forward side by side; half of each head turns."""
    s, norm, tied_head = sizes_of(c), layer_norm(c), tied(c)
    qk_norm = norm if c.flag("qk_layernorm") else None
    mixer = attention(c, s, rope=rope_of(c, s.head_dim, partial=0.5), qk_norm=qk_norm, qkv_bias=True, out_bias=True)
    dense = Dense(c.count("intermediate_size"), activation(c, "gelu_new"), gated=False, bias=True)
    layer = Layer(mixer, dense, mixer_norm=norm, wiring="parallel")
    rules = (
        *head_rules(tied_head),
        Rename(r"^(?:model\.)?final_layernorm\.", "norm."),
        rename_in_layer(r"self_attn\.dense", "mixer.o"),
        rename_in_layer(r"mlp\.fc1", "ffn.up"),
        rename_in_layer(r"mlp\.fc2", "ffn.down"),
        rename_in_layer("input_layernorm", "mixer_norm"),
        *NAMES,
    )
    return Recipe(decoder(c, s, [layer] * s.layers, norm, tied_head, head_bias=True), rules)


def phi3(c: Config) -> Recipe:
    """longrope: short sessions and long ones have frequencies of their own, both one scale."""
    c.ignore("full_attn_mod", "interpolate_factor")  # Phi-4-mini writes them; the reference reads neither
    c.ignore("original_max_position_embeddings")  # of longrope, which reads it; written without it as well
    for key in ("attention_bias", "mlp_bias", "lm_head_bias"):
        if c.flag(key):
            raise ModelError(f"{c.file}: {key} is not supported in a Phi 3 model.")
    s, norm, tied_head = sizes_of(c), rms(c, 1e-5), tied(c)
    kind = "full_attention" if c.get("sliding_window") is None else "sliding_attention"
    p = rope_parameters(c)
    if "short_factor" in p:
        p |= {"rope_type": "longrope"}  # early files call it su or yarn
    mixer = attention(c, s, rope=rope_from(c, p, s.head_dim), window=window_of(c, kind))
    layers = pre_norm_layers(norm, [mixer] * s.layers, [gated(c)] * s.layers)
    rules = (*head_rules(tied_head), split_qkv(s), split_gate_up(), *NAMES, *PRE)
    return Recipe(decoder(c, s, layers, norm, tied_head), rules)
