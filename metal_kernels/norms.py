"""The residual sum and the norm after it, in one launch."""

from __future__ import annotations

from functools import lru_cache

import mlx.core as mx

from .check import floating, need
from .launch import Body, launch

ADD_NORM = Body("add_norm", ("x", "y", "weight", "eps"), ("total", "normed"))


def add_norm(x: mx.array, y: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """x and y (T, D), weight (D,) -> x + y and its RMS norm times weight."""
    floating("x", x)
    need(x.ndim == 2 and x.shape == y.shape, f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}; both must be (T, D).")
    need(y.dtype == x.dtype, f"y is {y.dtype}, x is {x.dtype}; they must be the same.")
    need(tuple(weight.shape) == x.shape[1:], f"weight has shape {tuple(weight.shape)}; x needs {x.shape[1:]}.")
    simdgroups = min(32, -(-x.shape[1] // 128))  # four values a thread or more
    total, normed = launch(
        ADD_NORM,
        (x, y, weight, _number(eps)),
        [(tuple(x.shape), x.dtype)] * 2,
        {"T": x.dtype, "SIMDGROUPS": simdgroups},
        groups=(x.shape[0], 1, 1),
        threads=32 * simdgroups,
    )
    return total, normed


@lru_cache(maxsize=64)
def _number(value: float) -> mx.array:
    return mx.array([value], mx.float32)
