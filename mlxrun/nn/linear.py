"""A matrix and what multiplies by it; whether the matrix is quantized is the op's business."""

from __future__ import annotations

import mlx.core as mx

from ..ops.device import Device
from ..ops.embedding import embed
from ..ops.matmul import matmul
from ..ops.quantized import Matrix


class Linear:
    __slots__ = ("bias", "device", "weight")

    def __init__(self, weight: Matrix, device: Device, bias: mx.array | None = None) -> None:
        self.weight, self.device, self.bias = weight, device, bias

    def __call__(self, x: mx.array) -> mx.array:  # (..., in) -> (..., out)
        return matmul(x, self.weight, self.device, self.bias)


class Embedding:
    __slots__ = ("device", "weight")

    def __init__(self, weight: Matrix, device: Device) -> None:
        self.weight, self.device = weight, device

    def __call__(self, ids: mx.array) -> mx.array:  # (T,) -> (T, dim)
        return embed(ids, self.weight)

    def as_linear(self) -> Linear:
        return Linear(self.weight, self.device)
