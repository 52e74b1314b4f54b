"""OLMo 1 (LayerNorm without weights, clipped projections), OLMo 2 and 3 and EXAONE 4 (norms after the branch)."""

from __future__ import annotations

from ..spec import Attention, Layer, ModelError, Norm
from .common import (
    NAMES,
    POST,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    layer_types,
    layers_of,
    pre_norm_layers,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .rope import rope_from, rope_of, rope_parameters


def olmo(c: Config) -> Recipe:
    eps = c.eps(1e-5) if c.dialect == "gguf" else 1e-5  # the reference's own; a GGUF file always says one
    s, norm, tied_head, bias = sizes_of(c), Norm(eps, "layer", weight=False), tied(c), c.flag("attention_bias")
    clip = c.number("clip_qkv") if "clip_qkv" in c else None
    mixer = attention(c, s, qkv_bias=bias, out_bias=bias, clip=clip)
    layers = pre_norm_layers(norm, [mixer] * s.layers, [gated(c)] * s.layers)
    return Recipe(decoder(c, s, layers, norm, tied_head), (*head_rules(tied_head), *NAMES))


def olmo2(c: Config) -> Recipe:
    """Norms over the whole query and key projections, and on what each branch adds."""
    s, norm, bias = sizes_of(c), rms(c, 1e-5), c.flag("attention_bias")
    mixer = attention(c, s, qk_norm=norm, qk_norm_scope="all", qkv_bias=bias, out_bias=bias)
    return _post(c, [mixer] * s.layers)


def olmo3(c: Config) -> Recipe:
    """OLMo 2 with three sliding layers to a full one; only full layers have their rope scaled."""
    s, norm, bias = sizes_of(c), rms(c, 1e-5), c.flag("attention_bias")
    kinds = layer_types(c, s.layers, lambda i: "sliding_attention" if (i + 1) % 4 else "full_attention")
    mixers = {}
    for kind in kinds:
        p = rope_parameters(c, kind, 500_000.0, scaled=kind == "full_attention")
        mixers[kind] = attention(
            c,
            s,
            rope=rope_from(c, p, s.head_dim),
            window=window_of(c, kind, 4096),
            qk_norm=norm,
            qk_norm_scope="all",
            qkv_bias=bias,
            out_bias=bias,
        )
    return _post(c, [mixers[kind] for kind in kinds])


def exaone4(c: Config) -> Recipe:
    """Norms on query and key heads; where some layers slide, the full ones have no positions."""
    return _post(c, exaone_mixers(c))


def exaone_mixers(c: Config) -> list[Attention]:
    """One a layer."""
    s, norm = sizes_of(c), rms(c, 1e-5)
    slides = c.get("sliding_window") is not None
    kinds = layer_types(c, s.layers, lambda i: _exaone_kind(c, i) if slides else "full_attention")
    c.ignore("sliding_window_pattern")
    mixers = {
        kind: attention(
            c,
            s,
            rope=rope_of(c, s.head_dim, kind) if kind == "sliding_attention" or not slides else None,
            window=window_of(c, kind),
            qk_norm=norm,
        )
        for kind in set(kinds)
    }
    return [mixers[kind] for kind in kinds]


def _exaone_kind(c: Config, i: int) -> str:
    """The pattern is a period whose last layer is full, or letters, L for sliding and G for full."""
    pattern = c.get("sliding_window_pattern", 4)
    if isinstance(pattern, str) and pattern and set(pattern) <= set("LG"):
        last = i + 1 == layers_of(c)  # the last layer is full in any case
        return "full_attention" if pattern[i % len(pattern)] == "G" or last else "sliding_attention"
    if not isinstance(pattern, int) or pattern < 1:
        raise ModelError(f"{c.file}: sliding_window_pattern must be a period or letters like LLLG, not {pattern!r}.")
    return "sliding_attention" if (i + 1) % pattern else "full_attention"


def _post(c: Config, mixers: list[Attention]) -> Recipe:
    s, norm, tied_head = sizes_of(c), rms(c, 1e-5), tied(c)
    layers = [Layer(mixer, gated(c), mixer_post=norm, ffn_post=norm) for mixer in mixers]
    return Recipe(decoder(c, s, layers, norm, tied_head), (*head_rules(tied_head), *NAMES, *POST))
