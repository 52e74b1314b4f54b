"""Gemma 3n: several streams of rows of which a layer computes one, an embedding for every layer, shared keys, and gates
of which only what stands out is left.

Norms are stored as they are multiplied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..spec import AltUp, Attention, Dense, ModelError, Norm, PerLayerInput
from .common import (
    LAYER,
    NAMES,
    SANDWICH,
    Recipe,
    Sizes,
    attention,
    cap_of,
    decoder,
    head_rules,
    layer_types,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .gemma import gemma_activation, sandwich_layer
from .gemma4 import PER_LAYER, borrowed, lent
from .rope import rope_from, rope_parameters
from .rules import Drop, Rename, Rule

_SLIDES = "sliding_attention"


def gemma3n_text(c: Config) -> Recipe:
    c.ignore("altup_coef_clip")  # while it is trained
    s, norm, tied_head = sizes_of(c), rms(c), tied(c, True)
    kinds = layer_types(c, s.layers, lambda i: _SLIDES if (i + 1) % 5 else "full_attention")
    own = s.layers - c.count("num_kv_shared_layers", 15, low=0, high=s.layers - 1)
    mixers = lent(c, kinds, own, [_mixer(c, s, kind, norm) for kind in kinds])
    layers = [
        replace(sandwich_layer(norm, mixer, dense), wiring="altup", per_layer_input=True)
        for mixer, dense in zip(mixers, _dense(c, s.layers), strict=True)
    ]
    streams = c.count("altup_num_inputs", 4, low=2, high=1 << 8)
    scaled = c.flag("altup_correct_scale", True)
    whole = decoder(
        c,
        s,
        layers,
        norm,
        tied_head,
        embed_scale=s.dim**0.5,
        logit_softcap=cap_of(c, "final_logit_softcapping", 30.0),
        per_layer=PerLayerInput(
            c.count("hidden_size_per_layer_input", 256, high=1 << 16),
            c.count("vocab_size_per_layer_input", 262_144, high=1 << 26),
            gemma_activation(c),
            norm,
        ),
        altup=AltUp(
            streams,
            c.count("altup_active_idx", 0, low=0, high=streams - 1),
            c.count("laurel_rank", 64, high=1 << 16),
            norm,
            scaled,
        ),
    )
    rules = (*borrowed(own, s.layers), *_altup_rules(streams, scaled), *head_rules(tied_head), *PER_LAYER)
    return Recipe(whole, (*rules, *NAMES, *SANDWICH))


def _mixer(c: Config, s: Sizes, kind: str, norm: Norm) -> Attention:
    """Older files write the local base beside the global one, and scale the global one only."""
    bias = c.flag("attention_bias")
    if kind == _SLIDES:
        p = rope_parameters(c, kind, base_key="rope_local_base_freq", scaled=False)
    else:
        p = rope_parameters(c, kind, 1e6)
    return attention(
        c,
        s,
        rope=rope_from(c, p, s.head_dim),
        scale=1.0,
        window=window_of(c, kind, 512),
        qk_norm=norm,
        v_norm=Norm(norm.eps, weight=False),
        qkv_bias=bias,
        out_bias=bias,
    )


def _dense(c: Config, layers: int) -> list[Dense]:
    """Width and sparsity may differ from layer to layer."""
    act, wide = gemma_activation(c), c["intermediate_size"]
    widths = _each(c, "intermediate_size", wide if isinstance(wide, list) else [wide] * layers, layers)
    usual = [0.95 if i < 10 < layers else 0.0 for i in range(layers)]
    sparse = _each(c, "activation_sparsity_pattern", c.get("activation_sparsity_pattern", usual), layers)
    found = []
    for i in range(layers):
        share = sparse.number(str(i))
        if not 0 <= share < 1:
            raise ModelError(f"{c.file}: activation_sparsity_pattern must be shares from 0 to 1, not {share!r}.")
        found.append(Dense(widths.count(str(i), high=1 << 22), act, sparsity=share))
    return found


def _each(c: Config, key: str, written: Any, layers: int) -> Config:
    if not isinstance(written, list) or len(written) != layers:
        raise ModelError(f"{c.file}: {key} must list one number for each of the {layers} layers.")
    return Config({str(i): value for i, value in enumerate(written)}, file=f"{c.file}, {key}")


def _altup_rules(streams: int, scaled: bool) -> tuple[Rule, ...]:
    places = {"altup_projections": "spread", "altup_unembed_projections": "merge"}
    return (
        *(
            Rename(rf"^(?:model\.)?{theirs}\.{i - 1}\.", f"altup.{ours}.{i}.")
            for theirs, ours in places.items()
            for i in range(1, streams)
        ),
        Rename(LAYER + r"altup\.correct_output_scale$", r"layers.\1.altup.scale")
        if scaled
        else Drop(LAYER + r"altup\.correct_output_scale$"),
        rename_in_layer(r"altup\.correction_coefs", "altup.correct"),
        rename_in_layer(r"altup\.prediction_coefs", "altup.foresee"),
        rename_in_layer(r"altup\.modality_router", "altup.router"),
        rename_in_layer(r"altup\.router_norm", "altup.norm"),
        rename_in_layer(r"laurel\.linear_left", "laurel.down"),
        rename_in_layer(r"laurel\.linear_right", "laurel.up"),
        rename_in_layer(r"laurel\.post_laurel_norm", "laurel.norm"),
    )
