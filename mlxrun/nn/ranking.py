"""The head of a cross-encoder: rows of a question and a text that were read together -> how well they fit."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..ops.activations import activation
from ..spec import RankingHead
from .params import Params


class RankingBlock:
    def __init__(self, spec: RankingHead, dim: int, params: Params) -> None:
        self.spec = spec
        self.dense = params.linear("dense", dim, dim, bias=spec.bias)
        self.act = mx.tanh if spec.act == "tanh" else activation(spec.act)
        self.norm = params.norm("norm", spec.norm, dim) if spec.norm is not None else None
        self.score = params.linear("score", 1, dim, bias=True)

    def __call__(self, texts: Sequence[mx.array]) -> mx.array:
        """Of each text its rows (L, dim) -> (texts,)"""
        chosen = mx.stack([rows[0] if self.spec.rows == "first" else rows.mean(axis=0) for rows in texts])
        x = self.act(self.dense(chosen))
        return self.score(x if self.norm is None else self.norm(x))[:, 0]
