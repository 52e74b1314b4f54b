"""BitNet b1.58: Llama with norms before the last matrix of each branch, and squared ReLU.

Packed ternary weights are read by `weights/compressed.py`. The reference also rounds activations to 8 bits there; that
is a way to compute and not a part of the model, and is not done here.
"""

from __future__ import annotations

from dataclasses import replace

from ..spec import Dense
from .common import Recipe, activation, layers_of, rename_in_layer, rms
from .config import Config
from .llama import Silent, llama_like
from .moe import WIDEST


def bitnet(c: Config) -> Recipe:
    norm, bias = rms(c, 1e-5), c.flag("attention_bias")
    dense = Dense(c.count("intermediate_size", high=WIDEST), activation(c, "relu2"), down_norm=norm)
    silent, kinds = Silent(base=500_000.0, eps=1e-5), ("full_attention",) * layers_of(c)
    whole = llama_like(c, kinds, silent, ffn=dense, qkv_bias=bias, out_bias=bias, out_norm=norm)
    rules = (
        rename_in_layer(r"self_attn\.attn_sub_norm", "mixer.out_norm"),
        rename_in_layer(r"mlp\.ffn_sub_norm", "ffn.down_norm"),
    )
    return replace(whole, rules=(*rules, *whole.rules))
