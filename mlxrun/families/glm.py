"""GLM 4: half of each head turned in interleaved pairs, gate and up fused; from 0414 on norms around every branch."""

from __future__ import annotations

from dataclasses import replace

from .common import (
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    layers_of,
    rename_in_layer,
    rms,
    sizes_of,
    split_gate_up,
    tied,
)
from .config import Config
from .gemma import sandwich_layer
from .llama import Silent, llama_like
from .rope import rope_of


def glm4(c: Config) -> Recipe:
    s, norm, tied_head = sizes_of(c), rms(c, 1.5625e-7), tied(c)
    rope = rope_of(c, s.head_dim, interleaved=True, partial=0.5)
    mixer = attention(c, s, rope=rope, qkv_bias=c.flag("attention_bias", True))
    layer = sandwich_layer(norm, mixer, gated(c))
    rules = (
        *head_rules(tied_head),
        split_gate_up(),
        rename_in_layer("post_self_attn_layernorm", "mixer_post"),
        rename_in_layer("post_mlp_layernorm", "ffn_post"),
        *NAMES,
        *PRE,
    )
    return Recipe(decoder(c, s, [layer] * s.layers, norm, tied_head), rules)


def glm(c: Config) -> Recipe:
    """Without the norms after a branch."""
    rope = rope_of(c, sizes_of(c).head_dim, interleaved=True, partial=0.5)
    kinds = ("full_attention",) * layers_of(c)
    whole = llama_like(c, kinds, Silent(eps=1.5625e-7), rope=rope, qkv_bias=c.flag("attention_bias", True))
    return replace(whole, rules=(split_gate_up(), *whole.rules))
