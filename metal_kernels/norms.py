"""RMS norms as the prologue of products: they take no launch of their own."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .check import need


@dataclass(frozen=True, slots=True)
class Normed:
    """Rows to be normed on their way into a product: RMSNorm(x) * weight, x (T, D)."""

    x: mx.array
    weight: mx.array  # (D,)
    eps: float


def unpacked(x: mx.array | Normed) -> tuple[mx.array, mx.array, float, bool]:
    """x, the norm's weight and eps as a kernel takes them, and whether there is a norm."""
    if not isinstance(x, Normed):
        return x, x, 0.0, False
    need(x.weight.dtype in (x.x.dtype, mx.float32), f"the norm's weight is {x.weight.dtype}, x is {x.x.dtype}.")
    fits = x.weight.ndim == 1 and x.weight.shape[0] == x.x.shape[-1]
    need(fits, f"the norm's weight has shape {tuple(x.weight.shape)}; x has {tuple(x.x.shape)}.")
    return x.x, x.weight, x.eps, True
