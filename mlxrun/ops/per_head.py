"""A matrix for each head, plain or quantized, used in either direction."""

from __future__ import annotations

import mlx.core as mx

from .device import Device
from .quantized import QuantizedWeight, Weight


def per_head(x: mx.array, weight: Weight, device: Device, *, as_it_lies: bool = False) -> mx.array:
    """x (1, H or 1, L, in), weight (H, out, in), or (H, in, out) as it lies -> (1, H, L, out)."""
    if isinstance(weight, mx.array):
        return x @ (weight if as_it_lies else weight.swapaxes(-1, -2))
    return _quantized(x, weight, device, transpose=not as_it_lies)


def reference(x: mx.array, weight: Weight, *, as_it_lies: bool = False) -> mx.array:
    """The meaning: float32 all the way, rounded once at the end."""
    full = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)
    y = x.astype(mx.float32) @ (full if as_it_lies else full.swapaxes(-1, -2))
    return y.astype(x.dtype)


def _quantized(x: mx.array, w: QuantizedWeight, device: Device, *, transpose: bool) -> mx.array:
    """On a CPU MLX sums in the input's type, so it is widened there."""
    if not w.in_mlx:
        full = w.dequantize(x.dtype)
        return x @ (full.swapaxes(-1, -2) if transpose else full)
    wide = x if device.gpu else x.astype(mx.float32)
    y = mx.quantized_matmul(
        wide, w.packed, w.scales, w.biases, transpose=transpose, group_size=w.group, bits=w.bits, mode=w.mode
    )
    return y.astype(x.dtype)
