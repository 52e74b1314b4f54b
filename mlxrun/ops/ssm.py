"""Mamba-2's state space recurrence: one decay a head, so a chunk of rows is a masked matrix product.

    S = exp(log_decay) S + u b^T;   y = S c

u is the input times its step size. Everything is float32. Groups of heads share b and c: head h reads
group h // (H / G). The state is (B, H, D, N).
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx

from .chunks import chunk_of, cut, joined, log_decays


def ssm(u: mx.array, log_decay: mx.array, b: mx.array, c: mx.array, state: mx.array) -> tuple[mx.array, mx.array]:
    """u (B, L, H, D), log_decay (B, L, H), b, c (B, L, G, N) -> (B, L, H, D), state."""
    if u.shape[1] == 1:
        return step(u, log_decay, b, c, state)
    return chunked(u, log_decay, b, c, state)


def reference(u: mx.array, log_decay: mx.array, b: mx.array, c: mx.array, state: mx.array) -> tuple[mx.array, mx.array]:
    """The meaning, one row at a time."""
    b, c = _for_heads(b, u.shape[2], 2), _for_heads(c, u.shape[2], 2)
    decay = mx.exp(log_decay)
    rows = []
    for t in range(u.shape[1]):
        state = state * decay[:, t, :, None, None] + u[:, t, :, :, None] * b[:, t, :, None]
        rows.append((state * c[:, t, :, None]).sum(axis=-1))
    return mx.stack(rows, axis=1), state


def step(u: mx.array, log_decay: mx.array, b: mx.array, c: mx.array, state: mx.array) -> tuple[mx.array, mx.array]:
    """One row."""
    heads = u.shape[2]
    b, c = _for_heads(b[:, 0], heads, 1), _for_heads(c[:, 0], heads, 1)  # (B, H, N)
    decay = mx.exp(log_decay)[:, 0, :, None, None]
    state = _updated(state, decay, u[:, 0, :, :, None], b[:, :, None])
    y = c[:, :, None] @ state.swapaxes(-1, -2)  # (B, H, 1, D)
    return y.transpose(0, 2, 1, 3), state


@partial(mx.compile, shapeless=True)
def _updated(state: mx.array, decay: mx.array, u: mx.array, b: mx.array) -> mx.array:
    return decay * state + u * b


def chunked(u: mx.array, log_decay: mx.array, b: mx.array, c: mx.array, state: mx.array) -> tuple[mx.array, mx.array]:
    """Inside a chunk as attention whose weights are c b^T times the decay between; the state joins chunks."""
    length, heads = u.shape[1], u.shape[2]
    u, log_decay, b, c = (cut(x, chunk_of(length)) for x in (u, log_decay, b, c))
    outputs = []
    for i in range(u.shape[0]):
        between = mx.exp(log_decays(log_decay[i]))  # (B, H, C, C), from row j to row i
        since_start = mx.exp(mx.cumsum(log_decay[i], axis=-1))[..., None]
        weights = _for_heads(c[i] @ b[i].swapaxes(-1, -2), heads, 1) * between
        carried = _for_heads(c[i], heads, 1) @ state.swapaxes(-1, -2)  # (B, H, C, D)
        outputs.append(weights @ u[i] + carried * since_start)
        left = (u[i] * between[..., -1, :, None]).swapaxes(-1, -2)  # (B, H, D, C)
        state = state * since_start[..., -1:, :] + left @ _for_heads(b[i], heads, 1)
    return joined(outputs, length), state


def _for_heads(x: mx.array, heads: int, axis: int) -> mx.array:
    times = heads // x.shape[axis]
    return x if times == 1 else mx.repeat(x, times, axis=axis)
