"""Bamba: Mamba 2 layers with a few of attention, half of whose heads turn; one network in every layer."""

from __future__ import annotations

from ..spec import Mixer, ModelError
from .common import (
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
)
from .config import Config
from .recurrent import kinds_of, mamba2, mamba_rules
from .rope import rope_of
from .rules import Rename

_MAMBA, _FULL = "linear_attention", "full_attention"


def bamba(c: Config) -> Recipe:
    c.ignore("mamba_chunk_size", "num_logits_to_keep", "z_loss_coefficient")
    s, norm, tied_head, bias = sizes_of(c), rms(c, 1e-5), tied(c), c.flag("attention_bias")
    rope = rope_of(c, s.head_dim, partial=0.5)
    if c.count("attn_rotary_emb", rope.dims) != rope.dims:  # of older files
        raise ModelError(f"{c.file}: attn_rotary_emb must be {rope.dims}, what partial_rotary_factor leaves of a head.")
    attends = c.get("attn_layer_indices", [])
    kinds = kinds_of(c, s.layers, lambda i: _FULL if i in attends else _MAMBA, (_MAMBA, _FULL))
    mixers: dict[str, Mixer] = {
        _MAMBA: mamba2(c, s.dim, norm),
        _FULL: attention(c, s, rope=rope, qkv_bias=bias, out_bias=bias),
    }
    ffn = gated(c, bias=c.flag("mlp_bias"))
    rules = (
        *mamba_rules("mamba"),
        rename_in_layer(r"feed_forward\.(gate|up|down)_proj", r"ffn.\2"),
        rename_in_layer("pre_ff_layernorm", "ffn_norm"),
        Rename(r"^(?:model\.)?final_layernorm\.", "norm."),
        *head_rules(tied_head),
        *NAMES,
        *PRE,
    )
    layers = pre_norm_layers(norm, [mixers[kind] for kind in kinds], [ffn] * s.layers)
    return Recipe(decoder(c, s, layers, norm, tied_head), rules)
