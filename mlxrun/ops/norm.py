"""RMS norm over the last axis."""

from __future__ import annotations

import mlx.core as mx

from ..cpu_kernels import native
from .native import NATIVE


def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    return native.rms_norm(x, weight, eps) if NATIVE else mx.fast.rms_norm(x, weight, eps)


def reference(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """The meaning: in float32, rounded once at the end."""
    wide = x.astype(mx.float32)
    y = wide * mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    if weight is None:
        return y.astype(x.dtype)
    return (y * weight.astype(mx.float32)).astype(mx.result_type(x, weight))
