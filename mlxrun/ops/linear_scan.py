"""A linear recurrence, channel by channel: h = exp(log_decay) h + x. Everything is float32."""

from __future__ import annotations

import mlx.core as mx


def linear_scan(x: mx.array, log_decay: mx.array, state: mx.array) -> tuple[mx.array, mx.array]:
    """x, log_decay (B, L, C), state (B, C) -> the state after each row (B, L, C), and the last."""
    if x.shape[1] == 1:
        rows = mx.exp(log_decay) * mx.expand_dims(state, 1) + x
    else:
        rows = _doubled(mx.concatenate([mx.expand_dims(state, 1), x], axis=1), mx.pad(log_decay, _ONE_BEFORE))[:, 1:]
    return rows, rows[:, -1]


_ONE_BEFORE = [(0, 0), (1, 0), (0, 0)]


def _doubled(rows: mx.array, log_decay: mx.array) -> mx.array:
    """Each row takes what the rows before it have come to, twice as many in each round."""
    reach = 1
    while reach < rows.shape[1]:
        before, kept = rows[:, :-reach], log_decay[:, reach:]
        rows = mx.concatenate([rows[:, :reach], rows[:, reach:] + mx.exp(kept) * before], axis=1)
        log_decay = mx.concatenate([log_decay[:, :reach], kept + log_decay[:, :-reach]], axis=1)
        reach *= 2
    return rows


def reference(x: mx.array, log_decay: mx.array, state: mx.array) -> tuple[mx.array, mx.array]:
    """The meaning, one row at a time."""
    rows = []
    for t in range(x.shape[1]):
        state = mx.exp(log_decay[:, t]) * state + x[:, t]
        rows.append(state)
    return mx.stack(rows, axis=1), state
