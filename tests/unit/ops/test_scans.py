"""Recurrences: every form against the row-by-row loop in NumPy float64, hard decays included."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops import channel_delta, conv, delta, linear_scan, ssm
from mlxrun.ops.chunks import log_decays
from mlxrun.ops.device import this_device
from mlxrun.ops.selective import selective_scan

LENGTHS = (1, 2, 3, 8, 63, 64, 65, 150)


def drawn(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def log_decay_of(noise):
    """Rows that lose next to nothing between rows that lose everything."""
    return -np.exp(noise * 4 - 3).astype(np.float32)


def both(outputs, want, atol=2e-5):
    for got, expected in zip(outputs, want, strict=True):
        np.testing.assert_allclose(np.array(got), expected, atol=atol)


def delta_loop(q, k, v, log_decay, beta, state):
    q, k, v, log_decay, beta, state = (t.astype(np.float64) for t in (q, k, v, log_decay, beta, state))
    q, k = (t.repeat(v.shape[2] // k.shape[2], axis=2) for t in (q, k))
    rows = []
    for t in range(q.shape[1]):
        decay = np.exp(log_decay[:, t])
        state = state * (decay[..., None, None] if decay.ndim == 2 else decay[:, :, None])
        wrong = (v[:, t] - np.einsum("bhvk,bhk->bhv", state, k[:, t])) * beta[:, t][..., None]
        state = state + np.einsum("bhv,bhk->bhvk", wrong, k[:, t])
        rows.append(np.einsum("bhvk,bhk->bhv", state, q[:, t]))
    return np.stack(rows, 1), state


@pytest.mark.parametrize("form", [partial(delta.gated_delta, device=this_device()), delta.chunked, delta.reference])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("k_heads", "v_heads"), [(2, 4), (3, 3)])
def test_gated_delta(form, length, k_heads, v_heads):
    q, k, v, noise, beta, state = drawn(
        length,
        *[(2, length, k_heads, 16)] * 2,
        (2, length, v_heads, 8),
        *[(2, length, v_heads)] * 2,
        (2, v_heads, 8, 16),
    )
    k = k + 1  # neighbours alike: the corrections depend on each other strongly
    q, k = (t / np.linalg.norm(t, axis=-1, keepdims=True) for t in (q, k))
    case = q, k, v, log_decay_of(noise), 1 / (1 + np.exp(-3 * beta)), state
    both(form(*(mx.array(t, mx.float32) for t in case)), delta_loop(*case))


@pytest.mark.parametrize("form", [channel_delta.channel_delta, channel_delta.chunked, channel_delta.reference])
@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 50])
def test_channel_delta(form, length):
    q, k, v, noise, beta, state = drawn(
        length, *[(2, length, 3, 12)] * 2, (2, length, 3, 8), (2, length, 3, 12), (2, length, 3), (2, 3, 8, 12)
    )
    k = k + 1
    q, k = (t / np.linalg.norm(t, axis=-1, keepdims=True) for t in (q, k))
    case = q, k, v, log_decay_of(noise), 1 / (1 + np.exp(-3 * beta)), state
    both(form(*(mx.array(t, mx.float32) for t in case)), delta_loop(*case))


def test_delta_step_is_the_row():
    case = [mx.array(t) for t in drawn(5, *[(3, 1, 2, 16)] * 2, (3, 1, 4, 8), *[(3, 1, 4)] * 2, (3, 4, 8, 16))]
    both(delta.step(*case), [np.array(t) for t in delta.reference(*case)], atol=2e-4)


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_the_triangular_inverse(size):
    (a,) = drawn(size, (3, 2, size, size))
    full = np.eye(size) + np.tril(a.astype(np.float64) * 0.5, -1)
    got = np.array(delta.inverse_unit_lower(mx.array(a * 0.5)))
    np.testing.assert_allclose(full @ got, np.broadcast_to(np.eye(size), full.shape), atol=1e-3)


def ssm_loop(u, log_decay, b, c, state):
    u, log_decay, b, c, state = (t.astype(np.float64) for t in (u, log_decay, b, c, state))
    b, c = (t.repeat(u.shape[2] // t.shape[2], axis=2) for t in (b, c))
    rows = []
    for t in range(u.shape[1]):
        state = state * np.exp(log_decay[:, t])[..., None, None] + np.einsum("bhd,bhn->bhdn", u[:, t], b[:, t])
        rows.append(np.einsum("bhdn,bhn->bhd", state, c[:, t]))
    return np.stack(rows, 1), state


@pytest.mark.parametrize("form", [ssm.ssm, ssm.chunked, ssm.reference])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_ssm(form, length, groups):
    u, noise, b, c, state = drawn(
        length, (2, length, 6, 4), (2, length, 6), *[(2, length, groups, 5)] * 2, (2, 6, 4, 5)
    )
    case = u, log_decay_of(noise), b, c, state
    both(form(*map(mx.array, case)), ssm_loop(*case), atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 40])
def test_selective_scan(length):
    x, dt, a, b, c, state = drawn(length, *[(2, length, 6)] * 2, (6, 5), *[(2, length, 5)] * 2, (2, 6, 5))
    dt, a = np.logaddexp(dt, 0), -np.exp(a)
    want, memory = [], state.astype(np.float64)
    for t in range(length):
        memory = np.exp(dt[:, t, :, None] * a) * memory + (dt[:, t] * x[:, t])[..., None] * b[:, t, None]
        want.append(np.einsum("bcn,bn->bc", memory, c[:, t]))
    got = selective_scan(*(mx.array(t, mx.float32) for t in (x, dt, a, b, c, state)))
    both(got, (np.stack(want, 1), memory))


@pytest.mark.parametrize("form", [linear_scan.linear_scan, linear_scan.reference])
@pytest.mark.parametrize("length", LENGTHS)
def test_linear_scan(form, length):
    x, noise, state = drawn(length, *[(2, length, 5)] * 2, (2, 5))
    log_decay = log_decay_of(noise)
    memory, want = state.astype(np.float64), []
    for t in range(length):
        memory = np.exp(log_decay[:, t].astype(np.float64)) * memory + x[:, t]
        want.append(memory)
    both(form(*(mx.array(t) for t in (x, log_decay, state))), (np.stack(want, 1), memory))


@pytest.mark.parametrize("form", [conv.causal_conv, conv.reference])
@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("silu", [True, False])
def test_causal_conv(form, length, with_bias, silu):
    x, taps, bias, window = drawn(length, (2, length, 6), (4, 6), (6,), (2, 3, 6))
    rows = np.concatenate([window, x], axis=1).astype(np.float64)
    sums = np.stack([(rows[:, t : t + 4] * taps).sum(1) for t in range(length)], 1) + (bias if with_bias else 0)
    got = form(mx.array(x), mx.array(taps), mx.array(bias) if with_bias else None, mx.array(window), silu=silu)
    both(got, (sums / (1 + np.exp(-sums)) if silu else sums, rows[:, -3:]), atol=2e-6)


def test_decays_between_rows_keep_what_is_small_behind_something_large():
    """A running total of -1e4 has no room left for 1e-3."""
    log_decay = np.full(8, -1e-3, np.float32)
    log_decay[0] = -1e4
    between = np.array(log_decays(mx.array(log_decay)))
    np.testing.assert_allclose(between[7, 0], -7e-3, rtol=1e-5)
    np.testing.assert_allclose(np.diagonal(between), 0)
    assert (between[np.triu_indices(8, 1)] == -np.inf).all()
