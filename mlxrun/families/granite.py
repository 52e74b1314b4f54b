"""Granite: Llama with four multipliers, of embeddings, attention, residual branches and logits."""

from __future__ import annotations

from dataclasses import replace

from .common import Recipe, with_attention
from .config import Config
from .llama import llama


def granite(c: Config) -> Recipe:
    whole = with_attention(llama(c), lambda i, a: replace(a, scale=c.number("attention_multiplier", 1.0)))
    residual = c.number("residual_multiplier", 1.0)
    scaled = replace(
        whole.decoder,
        layers=tuple(replace(layer, residual=residual) for layer in whole.decoder.layers),
        embed_scale=c.number("embedding_multiplier", 1.0),
        logit_scale=1.0 / c.number("logits_scaling", 1.0, above=0),
    )
    return replace(whole, decoder=scaled)
