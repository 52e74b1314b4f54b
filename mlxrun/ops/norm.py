"""RMS norm and layer norm over the last axis."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from ..cpu_kernels import native
from .device import Device

RmsNorm = Callable[[mx.array, mx.array | None, float], mx.array]
LayerNorm = Callable[[mx.array, mx.array | None, mx.array | None, float], mx.array]


def rms_norm_on(device: Device) -> RmsNorm:
    """x, weight, eps -> y."""
    return native.rms_norm if device.native else mx.fast.rms_norm


def layer_norm_on(device: Device) -> LayerNorm:
    """x, weight, bias, eps -> y. On a processor MLX makes some seventeen nodes of it."""
    return native.layer_norm if device.native else mx.fast.layer_norm


def reference(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """The meaning: in float32, rounded once at the end."""
    wide = x.astype(mx.float32)
    y = wide * mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    if weight is None:
        return y.astype(x.dtype)
    return (y * weight.astype(mx.float32)).astype(mx.result_type(x, weight))
