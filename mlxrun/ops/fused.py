"""Stretches of a layer as one node of the graph, for weights in the form of the native CPU kernels.

For a small model, building and walking the graph costs as much as the arithmetic. Each function here
means what the operations that it joins mean; a caller asks `packed` first and else builds them singly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import mlx.core as mx

from ..cpu_kernels import native
from ..spec import Activation
from .device import Device
from .quantized import Matrix, Packed


@dataclass(frozen=True, slots=True)
class Rms:
    weight: mx.array
    eps: float


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary positions: the first 2 n values of a head turn by position / freqs."""

    freqs: mx.array  # (n,)
    positions: mx.array  # (T,) int32
    interleaved: bool
    scale: float


def all_packed(weights: Sequence[Matrix]) -> TypeGuard[Sequence[Packed]]:
    return all(isinstance(weight, Packed) for weight in weights)


class Heads:
    """x (T, dim) -> q, k, v, each (1, heads, T, D) for one sequence or (T, heads, 1, D) for several.

    x is normed, multiplied, its heads normed and turned.
    """

    __slots__ = ("biases", "device", "dim", "norms", "weights")

    def __init__(
        self,
        weights: Sequence[Packed],
        biases: Sequence[mx.array | None],
        dim: int,
        norm: Rms | None,
        head_norms: tuple[Rms, Rms] | None,
        device: Device,
    ) -> None:
        self.weights, self.biases, self.dim, self.device = list(weights), list(biases), dim, device
        own = (norm.weight, norm.eps) if norm else (None, 0.0)
        q, k = head_norms or (None, None)
        self.norms = native.HeadNorms(*own, q and q.weight, k and k.weight, q.eps if q else 0.0)

    def __call__(
        self, x: mx.array, turn: Rotation | None, *, one_sequence: bool, narrow: bool = True
    ) -> list[mx.array]:
        """`narrow`: k and v as they are remembered."""
        how = (turn.freqs, turn.positions, turn.interleaved, turn.scale) if turn else (None, None)
        own, kept = self.device, self.device.kept(x.dtype) if narrow else x.dtype
        turned = native.Rotation(*how)
        return native.heads_of(
            x, self.weights, self.biases, self.dim, self.norms, turned, one_sequence, kept, own.rounding
        )


def add_matmul(x: mx.array, w: Packed, bias: mx.array | None, residual: mx.array, device: Device) -> mx.array:
    """residual + x @ w.T (+ bias)."""
    return native.matmul(x, w, bias, residual, device.rounding)


@dataclass(frozen=True, slots=True)
class FeedForward:
    """x (T, dim) -> x + down(act(gate(norm(x))) * up(norm(x)))."""

    norm: Rms
    gate: Packed | None
    up: Packed
    down: Packed
    act: Activation
    device: Device

    def __call__(self, x: mx.array) -> mx.array:
        norm, rounding = self.norm, self.device.rounding
        return native.feed_forward(x, self.gate, self.up, self.down, self.act, norm.weight, norm.eps, True, rounding)


@dataclass(frozen=True, slots=True)
class AttentionParts:
    """x (T, dim) -> x + out(softmax(scale * q . k) v)"""

    heads: Heads
    out: Packed
    out_bias: mx.array | None


class Experts:
    """x (T, dim), ids and weights (T, k) -> (T, dim): the weighted sum of what each row's experts say."""

    __slots__ = ("act", "biases", "matrices", "rounding")

    def __init__(
        self,
        matrices: tuple[Packed | None, Packed, Packed],
        biases: Sequence[mx.array | None],
        act: Activation,
        device: Device,
    ) -> None:
        """Of gate, up and down: a stack with one matrix for each expert, and (E, out)."""
        self.matrices, self.biases, self.act, self.rounding = matrices, tuple(biases), act, device.rounding

    @classmethod
    def of(
        cls,
        gate: Matrix | None,
        up: Matrix,
        down: Matrix,
        biases: Sequence[mx.array | None],
        act: Activation,
        device: Device,
    ) -> Experts | None:
        """None: these are in another form."""
        if not isinstance(up, Packed) or not isinstance(down, Packed) or not isinstance(gate, Packed | None):
            return None
        return cls((gate, up, down), biases, act, device)

    def __call__(self, x: mx.array, ids: mx.array, weights: mx.array) -> mx.array:
        chosen = ids.astype(mx.int32), weights.astype(mx.float32)
        return native.experts(x, *chosen, *self.matrices, self.act, *self.biases, None, self.rounding)
