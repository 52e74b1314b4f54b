"""Mamba-1's selective scan: every channel and state entry has a decay of its own, so it goes row by row.

    S = exp(dt A) S + (dt x) b^T;   y = S c

Everything is float32. The state is (B, C, N). The one form is its own reference: a parallel prefix over
chunks of rows does log2 as much work more, and on a CPU takes twice as long.
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx


def selective_scan(
    x: mx.array, dt: mx.array, a: mx.array, b: mx.array, c: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """x, dt (B, L, C), a (C, N), b, c (B, L, N) -> (B, L, C), state."""
    u = dt * x
    rows = []
    for t in range(x.shape[1]):
        state = _updated(state, dt[:, t, :, None], a, u[:, t, :, None], b[:, t, None])
        rows.append(c[:, t, None] @ state.swapaxes(-1, -2))  # (B, 1, C)
    return rows[0] if len(rows) == 1 else mx.concatenate(rows, axis=1), state


@partial(mx.compile, shapeless=True)
def _updated(state: mx.array, dt: mx.array, a: mx.array, u: mx.array, b: mx.array) -> mx.array:
    return mx.exp(dt * a) * state + u * b
