"""Rows times the weights of the expert that each row was sent to.

`dispatch` lays (row, choice) pairs out once for all products of a layer: as they come when they are
few, by expert when they are many, so that an expert's weights are read once. On a CPU MLX gathers
plain float32 weights only and sums quantized products in the input's type, so there both are widened.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from . import metal
from .device import Device
from .quantized import QuantizedWeight, Weight

GROUP_FROM = 64  # pairs from which they are laid out by expert: mlx-lm's choice


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The (row, choice) pairs of a layer: as they come, (T, k), or laid out by expert, (N,) with N = T * k."""

    experts: mx.array  # (T, k) or (N,): the expert of each pair
    order: mx.array | None  # (N,) which pair lies there; None: as they came
    choices: int  # k

    def spread(self, x: mx.array) -> mx.array:
        """What a row has goes to its pairs: (T, D) -> (T, 1, 1, D) or (N, 1, D)."""
        if self.order is None:
            return mx.expand_dims(x, (1, 2))
        return mx.expand_dims(x[self.order // self.choices], 1)

    def spread_pairs(self, x: mx.array) -> mx.array:
        """What a pair has: (T, k) -> (T, k, 1, 1) or (N, 1, 1)."""
        return mx.expand_dims(x if self.order is None else x.reshape(-1)[self.order], (-2, -1))

    def spread_rows(self, start: int, count: int) -> mx.array:
        """1 for the pairs of so many rows from one on, 0 for others: (T, 1, 1, 1) or (N, 1, 1)."""
        rows = mx.arange(self.experts.shape[0]) if self.order is None else self.order // self.choices
        chosen = mx.logical_and(rows >= start, rows < start + count)
        return chosen.reshape(-1, 1, 1) if self.order is not None else chosen.reshape(-1, 1, 1, 1)

    def collect(self, y: mx.array) -> mx.array:
        """(T, k, 1, D) or (N, 1, D) -> (T, k, D)."""
        y = mx.squeeze(y, -2)
        return y if self.order is None else y[mx.argsort(self.order)].reshape(-1, self.choices, y.shape[-1])


def dispatch(ids: mx.array) -> Dispatch:
    """ids (T, k)."""
    if ids.size < GROUP_FROM:
        return Dispatch(ids, None, ids.shape[1])
    flat = ids.reshape(-1)
    order = mx.argsort(flat)
    return Dispatch(flat[order], order, ids.shape[1])


def expert_matmul(x: mx.array, weight: Weight, d: Dispatch, device: Device, bias: mx.array | None = None) -> mx.array:
    """x as spread, (..., 1, in); weight (E, out, in), bias (E, out) -> (..., 1, out)."""
    if isinstance(weight, QuantizedWeight):
        y = _quantized(x, weight, d, device)
    elif weight.dtype == mx.float32 or device.gpu:
        y = _gather(x, weight, d)
    else:
        y = _plain_on_cpu(x, weight, d)
    return y if bias is None else y + mx.expand_dims(bias[d.experts], -2)


def reference(x: mx.array, weight: Weight, experts: mx.array, bias: mx.array | None = None) -> mx.array:
    """The meaning: each row times its own expert's matrix, in float32."""
    full = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)
    y = mx.stack([x[n].astype(mx.float32) @ full[experts[n]].T for n in range(x.shape[0])])
    return (y if bias is None else y + bias[experts].astype(mx.float32)).astype(x.dtype)


def _gather(x: mx.array, weight: mx.array, d: Dispatch) -> mx.array:
    return mx.gather_mm(x, weight.swapaxes(-1, -2), rhs_indices=d.experts, sorted_indices=d.order is not None)


def _plain_on_cpu(x: mx.array, weight: mx.array, d: Dispatch) -> mx.array:
    """Widen only the weights in use, when these are the fewer."""
    wide = x.astype(mx.float32)
    if d.experts.size < weight.shape[0]:
        y = wide @ weight[d.experts].astype(mx.float32).swapaxes(-1, -2)
    else:
        y = _gather(wide, weight.astype(mx.float32), d)
    return y.astype(x.dtype)


def _quantized(x: mx.array, weight: QuantizedWeight, d: Dispatch, device: Device) -> mx.array:
    if not weight.in_mlx:
        return _own(x, weight, d, device)
    if d.order is not None:
        ours = metal.expert_rows(mx.squeeze(x, -2), weight, d.experts, device.chooser)
        if ours is not None:
            return mx.expand_dims(ours, -2)
    wide = x if device.gpu else x.astype(mx.float32)
    y = mx.gather_qmm(
        wide,
        weight.packed,
        weight.scales,
        weight.biases,
        rhs_indices=d.experts,
        group_size=weight.group,
        bits=weight.bits,
        mode=weight.mode,
        sorted_indices=d.order is not None,
    )
    return y.astype(x.dtype)


def _own(x: mx.array, weight: QuantizedWeight, d: Dispatch, device: Device) -> mx.array:
    """For a layout that MLX does not know: by our kernel for sorted rows, else in full."""
    shape = (*d.experts.shape, 1, x.shape[-1])
    rows, experts = mx.broadcast_to(x, shape).reshape(-1, x.shape[-1]), d.experts.reshape(-1)
    order = mx.argsort(experts)
    y = metal.expert_rows(rows[order], weight, experts[order], device.chooser)
    if y is None:
        return expert_matmul(x, weight.dequantize(x.dtype), d, device)
    return y[mx.argsort(order)].reshape(*shape[:-1], y.shape[-1])
