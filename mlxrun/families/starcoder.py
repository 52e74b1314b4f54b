"""StarCoder 2: LayerNorm, biases, a plain tanh-GELU network; every layer slides where a window is written."""

from __future__ import annotations

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
    rename_in_layer,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .moe import WIDEST, refuse


def starcoder2(c: Config) -> Recipe:
    refuse(c, "mlp_type", "default")
    refuse(c, "norm_type", "layer_norm")
    c.ignore("residual_dropout", "layer_types")
    s, norm, tied_head, bias = sizes_of(c), layer_norm(c, key="norm_epsilon"), tied(c, True), c.flag("use_bias", True)
    kind = "full_attention" if c.get("sliding_window") is None else "sliding_attention"
    mixer = attention(c, s, window=window_of(c, kind), qkv_bias=bias, out_bias=bias)
    dense = Dense(c.count("intermediate_size", high=WIDEST), activation(c, "gelu_pytorch_tanh"), gated=False, bias=bias)
    layers = pre_norm_layers(norm, [mixer] * s.layers, [dense] * s.layers)
    rules = (
        *head_rules(tied_head),
        rename_in_layer(r"mlp\.c_fc", "ffn.up"),
        rename_in_layer(r"mlp\.c_proj", "ffn.down"),
        *NAMES,
        *PRE,
    )
    return Recipe(decoder(c, s, layers, norm, tied_head), rules)
