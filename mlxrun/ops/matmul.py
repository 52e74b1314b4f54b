"""y = x @ w.T (+ bias), for a plain or a quantized w.

The reference works in float32. MLX's own low-precision quantized product on a CPU accumulates in the
input's type (bfloat16 is 18% off at K=4096), so on a CPU x and the scales are widened first.
"""

from __future__ import annotations

import mlx.core as mx

from ..cpu_kernels import native
from . import metal
from .device import Device
from .frozen import FrozenMatrix
from .quantized import Matrix, Packed, QuantizedWeight, Weight


def matmul(x: mx.array, w: Matrix, device: Device, bias: mx.array | None = None) -> mx.array:
    """(..., in) x (out, in) -> (..., out)."""
    if isinstance(w, Packed):
        return native.matmul(x, w, bias, None, device.rounding)
    if isinstance(w, FrozenMatrix | QuantizedWeight):
        y: mx.array = w.product(x) if isinstance(w, FrozenMatrix) else quantized_matmul(x, w, device)
        return y if bias is None else y + bias
    if bias is None:
        return x @ w.T
    return mx.addmm(bias, x, w.T)


def reference(x: mx.array, w: Weight, bias: mx.array | None = None) -> mx.array:
    """The meaning: float32 all the way, rounded once at the end."""
    full = w.dequantize(mx.float32) if isinstance(w, QuantizedWeight) else w.astype(mx.float32)
    y = x.astype(mx.float32) @ full.T
    return (y if bias is None else y + bias).astype(x.dtype)


def quantized_matmul(x: mx.array, w: QuantizedWeight, device: Device) -> mx.array:
    if device.chooser.possible():
        y = metal.matmul(x, w, device.chooser)
        if y is not None:
            return y
    if not w.in_mlx:
        return x @ w.dequantize(x.dtype).T
    return mx.quantized_matmul(
        x, w.packed, w.scales, w.biases, transpose=True, group_size=w.group, bits=w.bits, mode=w.mode
    )
