"""Causal depthwise convolution along a sequence, mostly with silu after; the inputs before it are carried along.

Row i sees rows i-K+1 .. i of its own channel; `window` holds the K-1 rows before the first. Sums are
float32. Many rows are K shifted products in one kernel, which on a CPU is faster than MLX's conv1d.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import mlx.core as mx
import mlx.nn as nn


def causal_conv(
    x: mx.array, taps: mx.array, bias: mx.array | None, window: mx.array, *, silu: bool = True
) -> tuple[mx.array, mx.array]:
    """x (B, L, C), taps (K, C) oldest first, window (B, K-1, C) -> rows (B, L, C) and the next window."""
    length = x.shape[1]
    rows = mx.concatenate([window, x], axis=1)  # (B, K-1+L, C)
    if length == 1:
        y = (rows.astype(mx.float32) * taps).sum(axis=1, keepdims=True)
        y = y if bias is None else y + bias
        y = nn.silu(y) if silu else y
    else:
        shifted = [rows[:, k : k + length] for k in range(taps.shape[0])]
        y = (_silu_sum if silu else _sum)(mx.array(0.0) if bias is None else bias, shifted, list(taps))
    return y.astype(x.dtype), rows[:, length:]


def reference(
    x: mx.array, taps: mx.array, bias: mx.array | None, window: mx.array, *, silu: bool = True
) -> tuple[mx.array, mx.array]:
    """The meaning, one row at a time."""
    rows = mx.concatenate([window, x], axis=1)
    sums = [
        (rows[:, i : i + taps.shape[0]].astype(mx.float32) * taps.astype(mx.float32)).sum(axis=1)
        for i in range(x.shape[1])
    ]
    y = mx.stack(sums, axis=1)
    y = y if bias is None else y + bias.astype(mx.float32)
    y = y / (1 + mx.exp(-y)) if silu else y
    return y.astype(x.dtype), rows[:, x.shape[1] :]


@partial(mx.compile, shapeless=True)
def _sum(first: mx.array, rows: Sequence[mx.array], taps: Sequence[mx.array]) -> mx.array:
    return sum((row.astype(mx.float32) * tap for row, tap in zip(rows, taps, strict=True)), first)


@partial(mx.compile, shapeless=True)
def _silu_sum(first: mx.array, rows: Sequence[mx.array], taps: Sequence[mx.array]) -> mx.array:
    return nn.silu(_sum(first, rows, taps))
