"""A second, small embedding that feeds every layer."""

from __future__ import annotations

import mlx.core as mx

from ..contracts import SoftRows
from ..ops.activations import activation
from ..spec import PerLayerInput
from .params import Params


class PerLayerEmbedding:
    """Token ids and the main embedding -> one small vector a layer."""

    def __init__(self, spec: PerLayerInput, dim: int, layers: int, params: Params) -> None:
        self.embed = params.embedding("embed", spec.vocab, layers * spec.dim)
        self.proj = params.linear("proj", layers * spec.dim, dim)
        self.norm = params.norm("norm", spec.norm, spec.dim)
        self.shape, self.vocab, self.soft = (layers, spec.dim), spec.vocab, spec.soft
        self.token_scale, self.proj_scale = spec.dim**0.5, dim**-0.5

    def __call__(self, ids: mx.array, x: mx.array, soft: SoftRows | None = None) -> mx.array:
        """(T,), (T, dim) -> (T, layers, per-layer dim)"""
        rows = len(ids)
        ids = mx.where(ids < self.vocab, ids, 0)  # tokens that have no row of their own
        if soft is not None:
            ids[soft.rows] = self.soft
        tokens = self.embed(ids).reshape(rows, *self.shape) * self.token_scale
        context = self.norm((self.proj(x) * self.proj_scale).reshape(rows, *self.shape))
        return (context + tokens) * 2**-0.5


class PerLayerBlock:
    def __init__(self, spec: PerLayerInput, dim: int, params: Params) -> None:
        self.spec = spec
        self.gate = params.linear("gate", spec.dim, dim)
        self.out = params.linear("out", dim, spec.dim)
        self.norm = params.norm("norm", spec.norm, dim)
        self.act = activation(spec.act)

    def __call__(self, x: mx.array, extra: mx.array) -> mx.array:
        return x + self.made(x, extra)

    def made(self, x: mx.array, extra: mx.array) -> mx.array:
        """What is added."""
        return self.norm(self.out(self.act(self.gate(x)) * extra))
