"""Rows times the weights of the expert that each row was sent to.

`dispatch` lays (row, choice) pairs out once for all products of a layer: as they come when they are
few, by expert when they are many, so that an expert's weights are read once. On a CPU MLX gathers
plain float32 weights only and sums quantized products in the input's type, so there both are widened.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .matmul import quantized_matmul
from .quantized import QuantizedWeight, Weight

GROUP_FROM = 64  # pairs from which they are laid out by expert: mlx-lm's choice


@dataclass(frozen=True, slots=True)
class Dispatch:
    """N = T * k (row, choice) pairs, in order or laid out by expert."""

    experts: mx.array  # (N,) the expert of each pair
    order: mx.array | None  # (N,) which pair lies there; None: as they came
    choices: int  # k

    def spread(self, x: mx.array) -> mx.array:
        """What a row has goes to its pairs: (T, D) -> (N, D)."""
        pairs = mx.arange(self.experts.size) if self.order is None else self.order
        return x[pairs // self.choices]

    def spread_pairs(self, x: mx.array) -> mx.array:
        """What a pair has: (T, k) -> (N, 1)."""
        flat = x.reshape(-1, 1)
        return flat if self.order is None else flat[self.order]

    def collect(self, y: mx.array) -> mx.array:
        """(N, D) -> (T, k, D)."""
        y = y if self.order is None else y[mx.argsort(self.order)]
        return y.reshape(-1, self.choices, y.shape[-1])


def dispatch(ids: mx.array) -> Dispatch:
    """ids (T, k)."""
    flat = ids.reshape(-1)
    if flat.size < GROUP_FROM:
        return Dispatch(flat, None, ids.shape[-1])
    order = mx.argsort(flat)
    return Dispatch(flat[order], order, ids.shape[-1])


def expert_matmul(x: mx.array, weight: Weight, d: Dispatch, bias: mx.array | None = None) -> mx.array:
    """x (N, in), weight (E, out, in), bias (E, out) -> (N, out)."""
    if mx.default_device().type == mx.DeviceType.gpu:
        y = _gather(x, weight, d.experts, grouped=d.order is not None)
    elif d.experts.size < weight.shape[0]:
        y = _each(x.astype(mx.float32), weight, d.experts)
    else:
        plain = weight.astype(mx.float32) if isinstance(weight, mx.array) else weight
        y = _gather(x.astype(mx.float32), plain, d.experts, grouped=d.order is not None)
    return (y if bias is None else y + bias[d.experts]).astype(x.dtype)


def reference(x: mx.array, weight: Weight, experts: mx.array, bias: mx.array | None = None) -> mx.array:
    """The meaning: each row times its own expert's matrix, in float32."""
    full = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)
    y = mx.stack([x[n].astype(mx.float32) @ full[experts[n]].T for n in range(x.shape[0])])
    return (y if bias is None else y + bias[experts].astype(mx.float32)).astype(x.dtype)


def _gather(x: mx.array, weight: Weight, experts: mx.array, *, grouped: bool) -> mx.array:
    rows = x[:, None]  # (N, 1, in)
    if isinstance(weight, mx.array):
        return mx.gather_mm(rows, weight.swapaxes(-1, -2), rhs_indices=experts, sorted_indices=grouped)[:, 0]
    return mx.gather_qmm(
        rows,
        weight.packed,
        weight.scales,
        weight.biases,
        rhs_indices=experts,
        group_size=weight.group,
        bits=weight.bits,
        mode=weight.mode,
        sorted_indices=grouped,
    )[:, 0]


def _each(x: mx.array, weight: Weight, experts: mx.array) -> mx.array:
    """Fewer rows than experts on a CPU: widen only the weights in use."""
    if isinstance(weight, QuantizedWeight):
        return quantized_matmul(x[:, None], weight.rows(lambda part: part[experts]))[:, 0]
    return (x[:, None] @ weight[experts].astype(mx.float32).swapaxes(-1, -2))[:, 0]
