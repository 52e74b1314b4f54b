"""The delta rule of `delta.py` where every channel of a key decays on its own.

    S = S exp(log_decay), column by column;   S = S + beta (v - S k) k^T;   y = S q

q and k come normalised and scaled. Everything is float32. The state is (B, H, Dv, Dk).
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx

from .chunks import chunk_of, cut, joined, log_decays
from .delta import inverse_unit_lower

CHUNK = 16  # rows handled together: decays between all pairs of them are held for every channel


def channel_delta(
    q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """q, k, log_decay (B, L, H, Dk), v (B, L, H, Dv), beta (B, L, H) -> (B, L, H, Dv), state."""
    return (step if q.shape[1] == 1 else chunked)(q, k, v, log_decay, beta, state)


def reference(
    q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """The meaning, one row at a time."""
    rows = []
    for t in range(q.shape[1]):
        state = state * mx.exp(log_decay[:, t, :, None])
        missing = (v[:, t] - (state * k[:, t, :, None]).sum(axis=-1)) * beta[:, t, :, None]  # (B, H, Dv)
        state = state + missing[..., None] * k[:, t, :, None]
        rows.append((state * q[:, t, :, None]).sum(axis=-1))
    return mx.stack(rows, axis=1), state


def step(
    q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """One row. The old state is read for k and q at once, and what q gains from the correction is added."""
    q, k, v, log_decay = (x.swapaxes(1, 2) for x in (q, k, v, log_decay))  # (B, H, 1, D)
    decay = mx.exp(log_decay)
    seen_k, seen_q = mx.split((mx.concatenate([k, q], axis=2) * decay) @ state.swapaxes(-1, -2), 2, axis=2)
    missing = (v - seen_k) * mx.expand_dims(beta, -1).swapaxes(1, 2)
    y = seen_q + missing * (k * q).sum(axis=-1, keepdims=True)
    return y.swapaxes(1, 2), _updated(state, decay, missing.swapaxes(-1, -2), k)


@partial(mx.compile, shapeless=True)
def _updated(state: mx.array, decay: mx.array, missing: mx.array, k: mx.array) -> mx.array:
    return decay * state + missing * k


def chunked(
    q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """As `delta.chunked`; a product of two rows counts every channel as much as is left of it."""
    length = q.shape[1]
    cut_up = partial(cut, chunk=min(CHUNK, chunk_of(length)))
    q, k, v, log_decay, beta = (cut_up(x) for x in (q, k, v, log_decay, mx.expand_dims(beta, -1)))  # (N, B, H, C, D)
    outputs = []
    for i in range(q.shape[0]):
        between = mx.exp(log_decays(log_decay[i].swapaxes(-1, -2)))  # (B, H, Dk, C, C), from row j to row i
        between = mx.moveaxis(between, 2, -1)
        weighed = between * mx.expand_dims(k[i], -3)  # what is left of row j's key at row i
        alike, asked = ((mx.expand_dims(x, -2) * weighed).sum(axis=-1) for x in (k[i], q[i]))  # (B, H, C, C)
        since_start = mx.exp(mx.cumsum(log_decay[i], axis=-2))  # (B, H, C, Dk)
        from_state = state.swapaxes(-1, -2)
        missing = v[i] - (k[i] * since_start) @ from_state
        new = inverse_unit_lower(beta[i] * alike) @ (beta[i] * missing)
        outputs.append((q[i] * since_start) @ from_state + asked @ new)
        state = state * since_start[..., -1:, :] + new.swapaxes(-1, -2) @ weighed[..., -1, :, :]
    return joined(outputs, length), state
