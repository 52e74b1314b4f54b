"""MiniCPM: branches, embeddings and logits scaled by the depth and the width (muP); MiniCPM 3 with latent attention."""

from __future__ import annotations

import math
from dataclasses import replace

from .common import Recipe
from .config import Config
from .deepseek import latent_dense, latent_of
from .llama import llama
from .moe import refuse


def minicpm(c: Config) -> Recipe:
    """Its logits are scaled whether or not its head is tied."""
    refuse(c, "num_experts", 0)
    c.ignore("rope_traditional")
    return _scaled(c, llama(c))


def minicpm3(c: Config) -> Recipe:
    heads = c.count("num_attention_heads")
    values = c.count("v_head_dim", c.count("hidden_size", low=heads) // heads)
    return _scaled(c, latent_dense(c, latent_of(c, interleaved=False, values=values), eps=1e-5, tied_head=True))


def _scaled(c: Config, whole: Recipe) -> Recipe:
    """A null says that there is no such scale; a key that is missing, that it is the usual one."""
    layers, dim = whole.decoder.layers, whole.decoder.dim
    depth = math.sqrt(len(layers)) if _is_null(c, "scale_depth") else c.number("scale_depth", 1.4)
    width = dim if _is_null(c, "dim_model_base") else c.number("dim_model_base", 256, above=0)
    decoder = replace(
        whole.decoder,
        layers=tuple(replace(layer, residual=depth / math.sqrt(len(layers))) for layer in layers),
        embed_scale=c.number("scale_emb", 12),
        logit_scale=width / dim,
    )
    return replace(whole, decoder=decoder)


def _is_null(c: Config, key: str) -> bool:
    return key in c.data and c.data[key] is None
