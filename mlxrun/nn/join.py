"""The entrance of a head that guesses further tokens: a token, and what the model thought at the token before it."""

from __future__ import annotations

import mlx.core as mx

from ..spec import Joined
from .params import Params


class EntranceBlock:
    def __init__(self, spec: Joined, dim: int, params: Params) -> None:
        self.embed_norm = params.norm("embed_norm", spec.embed_norm, dim)
        self.hidden_norm = params.norm("hidden_norm", spec.hidden_norm, dim)
        self.proj = params.linear("proj", dim, 2 * dim)

    def __call__(self, x: mx.array, hidden: mx.array | None) -> mx.array:
        """x (T, dim) embeddings; hidden (T, dim), None: nothing was thought -> (T, dim)."""
        thought = mx.zeros_like(x) if hidden is None else hidden.astype(x.dtype)
        return self.proj(mx.concatenate([self.embed_norm(x), self.hidden_norm(thought)], axis=-1))
