"""Granite 3, dense and with experts: Llama with four multipliers, of embeddings, attention, branches and logits."""

from __future__ import annotations

from dataclasses import replace

from ..spec import Router
from .common import Recipe, with_attention, with_ffn
from .config import Config
from .granite_hybrid import fused_experts
from .llama import llama
from .moe import moe, top_k


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


def granitemoe(c: Config) -> Recipe:
    """Experts in every layer, weighted by a softmax over the chosen ones."""
    whole = granite(c)
    experts = moe(c, Router(top_k(c), "softmax_topk"), "intermediate_size")
    return replace(with_ffn(whole, [experts] * len(whole.decoder.layers)), rules=(*fused_experts(c), *whole.rules))
