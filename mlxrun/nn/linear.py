"""A matrix and what multiplies by it; whether the matrix is quantized is the op's business."""

from __future__ import annotations

from typing import Protocol

import mlx.core as mx

from ..ops.adapters import AdaptedSpan, adapted
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


class BoundedLinear(Linear):
    """One whose rows are clamped before it and behind it."""

    __slots__ = ("bounds",)

    def __init__(self, weight: Matrix, device: Device, bias: mx.array | None, bounds: mx.array) -> None:
        """`bounds` (4,): least and most of what goes in, and of what comes out."""
        super().__init__(weight, device, bias)
        self.bounds = bounds

    def __call__(self, x: mx.array) -> mx.array:  # (..., in) -> (..., out)
        low, high, least, most = self.bounds.astype(x.dtype)
        return mx.clip(super().__call__(mx.clip(x, low, high)), least, most)


class AdaptedRows:
    """Which rows of the pass that is being built have an adapter: told before it, the same for every matrix."""

    __slots__ = ("spans",)

    def __init__(self) -> None:
        self.spans: tuple[AdaptedSpan, ...] = ()


class AdaptedLinear(Linear):
    """One that adapters may change, each for the rows of its sequences."""

    __slots__ = ("name", "rows")

    def __init__(self, weight: Matrix, device: Device, bias: mx.array | None, name: str, rows: AdaptedRows) -> None:
        super().__init__(weight, device, bias)
        self.name, self.rows = name, rows

    def __call__(self, x: mx.array) -> mx.array:  # (T, in) -> (T, out)
        y = super().__call__(x)
        spans = [
            (start, count, adapter.parts[self.name])
            for start, count, adapter in self.rows.spans
            if self.name in adapter.parts
        ]
        return adapted(x, y, self.bias, spans, self.device) if spans else y


class AdaptedPlace(Protocol):
    """A matrix, or one for each expert, that adapters may change."""

    weight: Matrix


class Adaptable:
    """The matrices of a model that adapters may change, by canonical name, and what all of them are told."""

    __slots__ = ("places", "routed", "rows")

    def __init__(self) -> None:
        self.rows, self.places = AdaptedRows(), dict[str, AdaptedLinear]()
        self.routed: dict[str, AdaptedPlace] = {}  # routers and experts, which are not trained here

    @property
    def all(self) -> dict[str, AdaptedPlace]:
        return {**self.places, **self.routed}

    def linear(self, weight: Matrix, device: Device, bias: mx.array | None, name: str) -> AdaptedLinear:
        made = self.places[name] = AdaptedLinear(weight, device, bias, name, self.rows)
        return made


class Embedding:
    __slots__ = ("device", "weight")

    def __init__(self, weight: Matrix, device: Device) -> None:
        self.weight, self.device = weight, device

    def __call__(self, ids: mx.array) -> mx.array:  # (T,) -> (T, dim)
        return embed(ids, self.weight)

    def as_linear(self) -> Linear:
        return Linear(self.weight, self.device)
