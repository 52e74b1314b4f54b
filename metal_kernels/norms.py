"""RMS norms: of a residual sum in one launch, and as the prologue of products that takes no launch at all."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .check import floating, need
from .launch import Body, launch, number

ADD_NORM = Body("add_norm", ("x", "y", "weight", "eps"), ("total", "normed"))


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


def add_norm(x: mx.array, y: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """x and y (T, D), weight (D,) -> x + y and its RMS norm times weight."""
    floating("x", x)
    need(x.ndim == 2 and x.shape == y.shape, f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}; both must be (T, D).")
    need(y.dtype == x.dtype, f"y is {y.dtype}, x is {x.dtype}; they must be the same.")
    need(tuple(weight.shape) == x.shape[1:], f"weight has shape {tuple(weight.shape)}; x needs {x.shape[1:]}.")
    simdgroups = min(32, -(-x.shape[1] // 128))  # four values a thread or more
    total, normed = launch(
        ADD_NORM,
        (x, y, weight, number(eps)),
        [(tuple(x.shape), x.dtype)] * 2,
        {"T": x.dtype, "SIMDGROUPS": simdgroups},
        groups=(x.shape[0], 1, 1),
        threads=32 * simdgroups,
    )
    return total, normed
