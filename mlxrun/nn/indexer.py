"""The indexer of DeepSeek sparse attention: a small attention that picks the keys the large one may see.

Scores are float32 and rectified, so exact ties at zero are common; which of them are taken is left open.
"""

from __future__ import annotations

import mlx.core as mx

from ..spec import Indexer
from .batch import Pass, Segment
from .params import Params
from .rope import Rotary


class IndexerBlock:
    def __init__(self, spec: Indexer, dim: int, q_rank: int, params: Params) -> None:
        s = self.spec = spec
        self.q = params.linear("q", s.heads * s.dim, q_rank)
        self.k = params.linear("k", s.dim, dim)
        self.weights = params.linear("weights", s.heads, dim)
        self.k_norm = params.norm("k_norm", s.norm, s.dim)
        self.rotary = Rotary(s.rope)

    def keys(self, x: mx.array, p: Pass) -> mx.array:
        """x (T, dim) -> folded, one head of width `spec.dim`."""
        return self.rotary(p.fold(self.k_norm(self.k(x)), 1, self.spec.dim), p)

    def queries(self, latent: mx.array, p: Pass) -> mx.array:
        """The latent queries (T, q_rank) -> folded."""
        return self.rotary(p.fold(self.q(latent), self.spec.heads, self.spec.dim), p)

    def head_weights(self, x: mx.array) -> mx.array:
        """(T, dim) -> float32 (T, heads), the scores' scale included."""
        return self.weights(x).astype(mx.float32) * (self.spec.heads * self.spec.dim) ** -0.5

    def choose(self, q: mx.array, weights: mx.array, keys: mx.array, seen: mx.array | None) -> mx.array:
        """q (1, heads, L, D), weights (L, heads), keys (1, 1, S, D), seen (L, S) -> ids of keys (L, top_k)."""
        q, keys = q[0].astype(mx.float32), keys[0, 0].astype(mx.float32).T  # (D, S)
        if q.shape[1] == 1:
            scores = weights @ mx.maximum(q[:, 0] @ keys, 0)  # (1, heads) @ (heads, S)
        else:  # head by head: all at once would hold (heads, L, S)
            parts = (mx.maximum(q[h] @ keys, 0) * weights[:, h, None] for h in range(self.spec.heads))
            scores = sum(parts, mx.array(0.0))
        if seen is not None:
            scores = mx.where(seen, scores, -mx.inf)
        return mx.argpartition(-mx.stop_gradient(scores), self.spec.top_k - 1, axis=-1)[:, : self.spec.top_k]


def chosen_mask(ids: mx.array, seen: mx.array) -> mx.array:
    """Ids (L, top_k) of keys, of those seen (L, S) -> (L, S)."""
    return mx.put_along_axis(mx.zeros(seen.shape, mx.bool_), ids, mx.array(True), axis=-1) & seen


def too_few(spec: Indexer, segment: Segment) -> bool:
    """As many keys as may be chosen, or fewer: there is nothing to choose."""
    return segment.offset + segment.count <= spec.top_k
