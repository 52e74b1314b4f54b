"""Recurrent Gemma (Griffin): two layers of a gated linear recurrence, then one of attention over a window.

Norms are stored less one. Only half of a head turns, and the gated network is half as wide as the file says.
"""

from __future__ import annotations

import struct

from ..spec import Dense, GatedLinear, Mixer, ModelError
from .common import (
    LAYER,
    NAMES,
    Recipe,
    attention,
    cap_of,
    decoder,
    head_rules,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
)
from .config import Config
from .gemma import gemma_activation
from .moe import refuse
from .recurrent import ENDLESS, conv_rules
from .rope import rope_of
from .rules import Flatten, Rename

_KINDS = {"recurrent", "attention"}


def recurrent_gemma(c: Config) -> Recipe:
    c.ignore("w_init_variance_scale", "final_w_init_variance_scale")
    refuse(c, "embeddings_scale_by_sqrt_dim", True)
    s, norm, tied_head, act = sizes_of(c), rms(c, offset=1.0), tied(c, True), gemma_activation(c)
    bias, width = c.flag("attention_bias"), c.count("lru_width", s.dim, high=1 << 20)
    if width % s.heads:
        raise ModelError(f"{c.file}: lru_width {width} is not a multiple of num_attention_heads {s.heads}.")
    full = attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, partial=0.5),
        window=c.count("attention_window_size", 2048),
        qkv_bias=bias,
        out_bias=True,
    )
    mixers: dict[str, Mixer] = {
        "recurrent": GatedLinear(width, s.heads, c.count("conv1d_width", 4, high=64), act),
        "attention": full,
    }
    dense = Dense(c.count("intermediate_size", low=2, high=1 << 23) // 2, act, bias=True)
    layers = pre_norm_layers(norm, [mixers[kind] for kind in _kinds(c, s.layers)], [dense] * s.layers)
    whole = decoder(
        c,
        s,
        layers,
        norm,
        tied_head,
        context=c.count("max_position_embeddings", ENDLESS),
        embed_scale=_bfloat16(s.dim**0.5),
        logit_softcap=cap_of(c, "logits_soft_cap", 30.0),
    )
    block = r"temporal_block\."
    rules = (
        *conv_rules("temporal_block", conv="conv_1d"),
        rename_in_layer(block + "linear_x", "mixer.x"),
        rename_in_layer(block + "linear_y", "mixer.gate"),
        rename_in_layer(block + "linear_out", "mixer.o"),
        Rename(LAYER + block + r"rg_lru\.recurrent_param$", r"layers.\1.mixer.decay"),
        Rename(LAYER + block + r"rg_lru\.recurrent_gate_weight$", r"layers.\1.mixer.decay_gate.weight"),
        Rename(LAYER + block + r"rg_lru\.input_gate_weight$", r"layers.\1.mixer.input_gate.weight"),
        Flatten(LAYER + block + r"rg_lru\.recurrent_gate_bias$", r"layers.\1.mixer.decay_gate.bias"),
        Flatten(LAYER + block + r"rg_lru\.input_gate_bias$", r"layers.\1.mixer.input_gate.bias"),
        rename_in_layer(block + r"([qkvo])_proj", r"mixer.\2"),
        rename_in_layer(r"mlp_block\.(gate|up|down)_proj", r"ffn.\2"),
        rename_in_layer("temporal_pre_norm", "mixer_norm"),
        rename_in_layer("channel_pre_norm", "ffn_norm"),
        Rename(r"^(?:model\.)?final_norm\.", "norm."),
        *head_rules(tied_head),
        *NAMES,
    )
    return Recipe(whole, rules)


def _kinds(c: Config, layers: int) -> list[str]:
    """A pattern that is repeated; the 2B model's files name it with a dash before."""
    pattern = c.get("block_types", c.get("_block_types", ["recurrent", "recurrent", "attention"]))
    c.ignore("_block_types")
    if not isinstance(pattern, list) or not pattern or not {str(kind) for kind in pattern} <= _KINDS:
        raise ModelError(f"{c.file}: block_types must list recurrent and attention, not {pattern!r}.")
    return [pattern[i % len(pattern)] for i in range(layers)]


def _bfloat16(value: float) -> float:
    """The reference keeps this factor so, whatever else it computes in."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    found: float = struct.unpack("<f", struct.pack("<I", rounded))[0]
    return found
