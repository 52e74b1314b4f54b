"""The gated delta rule: a matrix of associations that decays, is corrected and is read, row by row.

    S = exp(log_decay) S;   S = S + beta (v - S k) k^T;   y = S q

q and k come normalised and scaled. Everything is float32. Key heads serve value heads in groups:
value head h reads key head h // (Hv / Hk). The state is (B, Hv, Dv, Dk).
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx

from .. import gpu
from .chunks import chunk_of, cut, joined, log_decays
from .device import Device

# head shapes (Hk, Hv) for which MLX 0.32 has a Metal kernel; for others, and in its CUDA build, it loops over rows
FUSED_DIM = 128
FUSED_HEADS = {(24, 24), (32, 32), (16, 32), (16, 48)}


def gated_delta(
    q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, beta: mx.array, state: mx.array, device: Device
) -> tuple[mx.array, mx.array]:
    """q, k (B, L, Hk, Dk), v (B, L, Hv, Dv), log_decay, beta (B, L, Hv) -> (B, L, Hv, Dv), state."""
    if device.gpu and _has_kernel(q, v) and gpu.metal():
        y, state = mx.fast.gated_delta_update(q, k, v, mx.exp(log_decay), beta, state)
        return y, state
    if q.shape[1] == 1:
        return step(q, k, v, log_decay, beta, state)
    return chunked(q, k, v, log_decay, beta, state)


def _has_kernel(q: mx.array, v: mx.array) -> bool:
    return q.shape[3] == v.shape[3] == FUSED_DIM and (q.shape[2], v.shape[2]) in FUSED_HEADS


def reference(
    q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """The meaning, one row at a time."""
    q, k = _for_value_heads(q, v), _for_value_heads(k, v)
    decay = mx.exp(log_decay)
    rows = []
    for t in range(q.shape[1]):
        state = state * decay[:, t, :, None, None]
        missing = (v[:, t] - (state * k[:, t, :, None]).sum(axis=-1)) * beta[:, t, :, None]  # (B, Hv, Dv)
        state = state + missing[..., None] * k[:, t, :, None]
        rows.append((state * q[:, t, :, None]).sum(axis=-1))
    return mx.stack(rows, axis=1), state


def step(
    q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """One row. The old state is read for k and q at once, and what q gains from the correction is added."""
    pair = mx.concatenate([k, q], axis=1).swapaxes(1, 2)  # (B, Hk, 2, Dk): the L axis of one row holds both
    if v.shape[2] != q.shape[2]:
        pair = mx.repeat(pair, v.shape[2] // q.shape[2], axis=1)
    k, q = mx.split(pair, 2, axis=2)  # (B, Hv, 1, Dk)
    seen_k, seen_q = mx.split(pair @ state.swapaxes(-1, -2), 2, axis=2)  # (B, Hv, 1, Dv)
    decay, beta = (mx.expand_dims(t, -1).swapaxes(1, 2) for t in (mx.exp(log_decay), beta))  # (B, Hv, 1, 1)
    missing = (v.swapaxes(1, 2) - decay * seen_k) * beta
    y = decay * seen_q + missing * (k * q).sum(axis=-1, keepdims=True)
    return y.swapaxes(1, 2), _updated(state, decay, missing.swapaxes(-1, -2), k)


@partial(mx.compile, shapeless=True)
def _updated(state: mx.array, decay: mx.array, missing: mx.array, k: mx.array) -> mx.array:
    return decay * state + missing * k


def chunked(
    q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """A chunk's corrections depend on each other triangularly: solve that once, then only multiply."""
    length = q.shape[1]
    cut_up = partial(cut, chunk=chunk_of(length))
    q, k = cut_up(_for_value_heads(q, v)), cut_up(_for_value_heads(k, v))  # (N, B, Hv, C, Dk)
    v, log_decay, beta = cut_up(v), cut_up(log_decay), cut_up(beta)[..., None]
    between = mx.exp(log_decays(log_decay))  # (N, B, Hv, C, C), from row j to row i
    since_start = mx.exp(mx.cumsum(log_decay, axis=-1))[..., None]
    solve = inverse_unit_lower(beta * (k @ k.swapaxes(-1, -2)) * between)
    wanted = solve @ (beta * v)  # the corrections, had the state been empty
    foreseen = solve @ (beta * since_start * k)  # what of them the state already says
    attend = (q @ k.swapaxes(-1, -2)) * between
    asked = q * since_start
    left = k * between[..., -1, :, None]  # what a row leaves at the end of its chunk
    outputs = []
    for i in range(q.shape[0]):
        from_state = state.swapaxes(-1, -2)  # (B, Hv, Dk, Dv)
        new = wanted[i] - foreseen[i] @ from_state
        outputs.append(asked[i] @ from_state + attend[i] @ new)
        state = state * since_start[i, :, :, -1:] + new.swapaxes(-1, -2) @ left[i]
    return joined(outputs, length), state


def inverse_unit_lower(a: mx.array) -> mx.array:
    """(I + the strictly lower part of a)^-1 for (..., C, C), C a power of two.

    Inverses of diagonal blocks are joined two by two: as stable as substitution, in log2(C) steps.
    """
    size = a.shape[-1]
    inverse = mx.ones((*a.shape[:-2], size, 1, 1), a.dtype)
    block = 1
    while block < size:
        pairs = size // (2 * block)
        grid = a.reshape(*a.shape[:-2], pairs, 2 * block, pairs, 2 * block)
        own = mx.arange(pairs)
        low = grid[..., own, block:, own, :block]  # (pairs, ..., block, block): indexed axes come first
        low = mx.moveaxis(low, 0, -3)
        upper, lower = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        corner = -(lower @ low @ upper)
        top = mx.concatenate([upper, mx.zeros_like(upper)], axis=-1)
        inverse = mx.concatenate([top, mx.concatenate([corner, lower], axis=-1)], axis=-2)
        block *= 2
    return inverse[..., 0, :, :]


def _for_value_heads(x: mx.array, v: mx.array) -> mx.array:
    times = v.shape[-2] // x.shape[-2]
    return x if times == 1 else mx.repeat(x, times, axis=-2)
