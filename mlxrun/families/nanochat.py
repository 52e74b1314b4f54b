"""nanochat: no norm has a weight, and one stands before the first layer; heads turn the other way round."""

from __future__ import annotations

from dataclasses import replace

from ..spec import Dense, Norm
from .common import (
    NAMES,
    Recipe,
    activation,
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
from .moe import WIDEST
from .rope import rope_of
from .rules import Rename

_H = r"^transformer\.h\.(\d+)\."


def nanochat(c: Config) -> Recipe:
    """Query and key heads are normed after they turn."""
    s, norm, tied_head, bias = sizes_of(c), Norm(rms(c).eps, weight=False), tied(c), c.flag("attention_bias")
    rope = rope_of(c, s.head_dim)
    back = replace(rope, freqs=tuple(-w for w in rope.freqs))
    mixer = attention(c, s, rope=back, qk_norm=norm, qk_norm_after_rope=True, qkv_bias=bias, out_bias=bias)
    dense = Dense(c.count("intermediate_size", high=WIDEST), activation(c, "relu2"), gated=False)
    rules = (
        *head_rules(tied_head),
        Rename(r"^transformer\.wte\.", "embed."),  # its authors' names, which mlx files keep
        rename_in_layer(r"attn\.c_([qkv])", r"mixer.\2", _H),
        rename_in_layer(r"attn\.c_proj", "mixer.o", _H),
        rename_in_layer(r"mlp\.c_fc", "ffn.up", _H),
        rename_in_layer(r"mlp\.c_proj", "ffn.down", _H),
        rename_in_layer(r"mlp\.fc1", "ffn.up"),
        rename_in_layer(r"mlp\.fc2", "ffn.down"),
        *NAMES,
    )
    layers = pre_norm_layers(norm, [mixer] * s.layers, [dense] * s.layers)
    cap = cap_of(c, "final_logit_softcapping", 15.0)
    return Recipe(decoder(c, s, layers, norm, tied_head, embed_norm=norm, logit_softcap=cap), rules)
