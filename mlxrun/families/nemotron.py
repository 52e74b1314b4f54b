"""Nemotron 4 and Minitron: LayerNorm stored zero-centred, squared ReLU, no gate."""

from __future__ import annotations

from dataclasses import replace

from ..spec import Dense
from .common import (
    NAMES,
    PRE,
    Recipe,
    activation,
    attention,
    decoder,
    head_rules,
    layer_norm,
    pre_norm_layers,
    sizes_of,
    tied,
)
from .config import Config
from .rope import rope_of


def nemotron(c: Config) -> Recipe:
    s, tied_head, bias = sizes_of(c), tied(c), c.flag("attention_bias")
    norm = replace(layer_norm(c, key="norm_eps"), offset=1.0)
    mixer = attention(c, s, rope=rope_of(c, s.head_dim, partial=0.5), qkv_bias=bias, out_bias=bias)
    dense = Dense(c.count("intermediate_size"), activation(c, "relu2"), gated=False, bias=c.flag("mlp_bias"))
    layers = pre_norm_layers(norm, [mixer] * s.layers, [dense] * s.layers)
    return Recipe(decoder(c, s, layers, norm, tied_head), (*head_rules(tied_head), *NAMES, *PRE))
