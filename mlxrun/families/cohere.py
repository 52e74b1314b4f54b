"""Cohere and Cohere 2: attention and feed-forward side by side on one LayerNorm without bias, logits scaled."""

from __future__ import annotations

from ..spec import Attention, Layer, ModelError
from .common import (
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    layer_norm,
    layer_types,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .rope import rope_of

# what early files say of themselves, and the only values that the reference computes
_FACTS = {
    "use_parallel_block": True,
    "use_gated_activation": True,
    "use_embedding_sharing": True,
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "order_of_interleaved_layers": "local_attn_first",
}


def cohere2(c: Config) -> Recipe:
    """Sliding layers have interleaved rope, full ones no positions."""
    _check(c, _FACTS)
    s, bias = sizes_of(c), c.flag("attention_bias")
    c.ignore("use_parallel_embedding")  # it splits work, not meaning
    period = c.count("sliding_window_pattern", c.count("layer_switch", 4))
    kinds = layer_types(c, s.layers, lambda i: "sliding_attention" if (i + 1) % period else "full_attention")
    mixers = {
        kind: attention(
            c,
            s,
            rope=rope_of(c, s.head_dim, kind, True) if kind == "sliding_attention" else None,
            window=window_of(c, kind, 4096),
            qkv_bias=bias,
            out_bias=bias,
        )
        for kind in set(kinds)
    }
    c.ignore("rope_theta", "rope_parameters")  # unread where all layers are full
    return _parallel(c, [mixers[kind] for kind in kinds])


def cohere(c: Config) -> Recipe:
    """Rope in every layer; in large ones each head has norms of its own."""
    s, bias, own = sizes_of(c), c.flag("attention_bias"), c.flag("use_qk_norm")
    mixer = attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, None, True, base=500_000.0),
        qk_norm=layer_norm(c, bias=False) if own else None,
        qk_norm_scope="each",
        qkv_bias=bias,
        out_bias=bias,
    )
    return _parallel(c, [mixer] * s.layers)


def _check(c: Config, facts: dict[str, object]) -> None:
    for key, value in facts.items():
        if c.get(key, value) != value:
            raise ModelError(f"{c.file}: {key} {c.get(key)!r} is not supported in a {c.family} model.")
    if c.flag("use_qk_norm"):
        raise ModelError(f"{c.file}: use_qk_norm is not supported in a {c.family} model.")


def _parallel(c: Config, mixers: list[Attention]) -> Recipe:
    s, norm, tied_head = sizes_of(c), layer_norm(c, bias=False), tied(c, True)
    layers = [Layer(mixer, gated(c), mixer_norm=norm, wiring="parallel") for mixer in mixers]
    whole = decoder(c, s, layers, norm, tied_head, logit_scale=c.number("logit_scale", 0.0625))
    return Recipe(whole, (*head_rules(tied_head), *NAMES, *PRE))
