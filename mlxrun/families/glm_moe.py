"""GLM-4.5 and 4.6: grouped-query attention on half of every head, DeepSeek's router, dense first layers."""

from __future__ import annotations

from ..spec import FeedForward
from .common import NAMES, PRE, Recipe, attention, decoder, gated, head_rules, pre_norm_layers, rms, sizes_of, tied
from .config import Config
from .moe import experts_of, moe, prediction_rules, router_rules, shared_experts, shared_rules, sigmoid_router
from .rope import rope_of


def glm4_moe(c: Config) -> Recipe:
    s, norm, tied_head = sizes_of(c), rms(c, 1e-5), tied(c)
    mixer = attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, partial=0.5),
        qk_norm=norm if c.flag("use_qk_norm") else None,
        qkv_bias=c.flag("attention_bias"),
    )
    experts, dense = moe(c, sigmoid_router(c), shared=shared_experts(c)), gated(c)
    first = c.count("first_k_dense_replace", 1, low=0)
    ffns: list[FeedForward] = [dense if i < first else experts for i in range(s.layers)]
    layers = pre_norm_layers(norm, [mixer] * s.layers, ffns)
    names = (*router_rules(), *shared_rules(), *experts_of(c), *head_rules(tied_head), *NAMES, *PRE)
    return Recipe(decoder(c, s, layers, norm, tied_head), (*prediction_rules(c, s.layers), *names))
