"""A matrix and what multiplies by it; whether the matrix is quantized is the op's business."""

from __future__ import annotations

import mlx.core as mx

from ..ops.embedding import embed
from ..ops.matmul import matmul
from ..ops.quantized import Matrix


class Linear:
    __slots__ = ("bias", "weight")

    def __init__(self, weight: Matrix, bias: mx.array | None = None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: mx.array) -> mx.array:  # (..., in) -> (..., out)
        return matmul(x, self.weight, self.bias)


class Embedding:
    __slots__ = ("weight",)

    def __init__(self, weight: Matrix) -> None:
        self.weight = weight

    def __call__(self, ids: mx.array) -> mx.array:  # (T,) -> (T, dim)
        return embed(ids, self.weight)

    def as_linear(self) -> Linear:
        return Linear(self.weight)
