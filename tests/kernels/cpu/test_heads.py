"""The front of an attention layer as one node: norm, q k v, head norms, rotation; against float64."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from . import oracle
from .made import DTYPES, Made, array, weight


def turned(x: oracle.Near, positions: np.ndarray, freqs: np.ndarray, *, interleaved: bool, scale: float) -> oracle.Near:
    """x (T, heads, D). Angles are float64 in both; their sine and cosine are rounded to float32 once."""
    half = len(freqs)
    angle = positions[:, None].astype(np.float64) / freqs
    cos, sin = np.cos(angle)[:, None] * scale, np.sin(angle)[:, None] * scale
    first, second = (np.arange(half) * 2, np.arange(half) * 2 + 1) if interleaved else (
        np.arange(half), np.arange(half) + half)  # fmt: skip
    value, error = x.value.copy(), x.error.copy()
    a, b = x.value[..., first], x.value[..., second]
    value[..., first], value[..., second] = a * cos - b * sin, a * sin + b * cos
    # twice: to the table's float32 and in the product; then the sum
    size = (x.most[..., first] + x.most[..., second]) * abs(scale)
    both = (x.error[..., first] + x.error[..., second]) * abs(scale)
    error[..., first] = error[..., second] = both + 4 * oracle.U * size
    return oracle.Near(value, error)


def seen(near: oracle.Near, one_sequence: bool) -> oracle.Near:
    """(T, heads, D) as (1, heads, T, D) or (T, heads, 1, D)."""
    if one_sequence:
        return oracle.Near(near.value.swapaxes(0, 1)[None], near.error.swapaxes(0, 1)[None])
    return oracle.Near(near.value[:, :, None], near.error[:, :, None])


def heads(near: oracle.Near, dim: int) -> oracle.Near:
    shape = (near.value.shape[0], near.value.shape[1] // dim, dim)
    return oracle.Near(near.value.reshape(shape), near.error.reshape(shape))


def three(random: np.random.Generator, width: int, dim: int) -> list[Made]:
    kinds = [("affine", 4, 32), ("affine", 6, 16), ("bf16", 16, 0)]
    return [weight(random, (n * dim, width), kind) for n, kind in zip((3, 1, 1), kinds, strict=True)]


@pytest.mark.parametrize("rows", [0, 1, 5, 150])  # 150: several pieces of work
@pytest.mark.parametrize("one_sequence", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_everything_at_once(isa: str, rows: int, one_sequence: bool, dtype: str) -> None:
    random = np.random.default_rng(1)
    width, dim, t = 96, 24, DTYPES[dtype]
    x, true = array(random.normal(size=(rows, width)) * 3, t)
    made = three(random, width, dim)
    biases = [array(random.normal(size=m.value.shape[0]), mx.float32) for m in made]
    (norm, n), (q_norm, qn), (k_norm, kn) = (array(random.normal(size=s), mx.float16) for s in (width, dim, dim))
    positions = random.integers(0, 5000, rows).astype(np.int32)
    freqs = (10000.0 ** (np.arange(8) / 8)).astype(np.float32)
    for interleaved in (False, True):
        for precision in (0, 1):
            found = native.heads_of(
                x, [m.packed for m in made], [b[0] for b in biases], dim,
                native.HeadNorms(norm, 1e-5, q_norm, k_norm, 1e-6),
                native.Rotation(mx.array(freqs), mx.array(positions), interleaved, 1.25),
                one_sequence, mx.float32, precision,
            )  # fmt: skip
            assert [y.dtype for y in found] == [t, mx.float32, mx.float32]
            normed = oracle.rms_norm(oracle.known(true), n, 1e-5)
            for i, (m, b, y) in enumerate(zip(made, biases, found, strict=True)):
                near = oracle.product(normed, m, fast=precision == 1 and native.integer()) + oracle.known(b[1])
                near = heads(near, dim)
                if i < 2:
                    near = oracle.rms_norm(near, (qn, kn)[i], 1e-6)
                    near = turned(near, positions, freqs, interleaved=interleaved, scale=1.25)
                oracle.check(y, seen(near, one_sequence))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_may_be_left_out(count: int) -> None:
    random = np.random.default_rng(2)
    x, true = array(random.normal(size=(7, 64)), mx.float16)
    made = three(random, 64, 16)[:count]
    for biases in ([], [None] * count):
        found = native.heads_of(
            x,
            [m.packed for m in made],
            biases,
            16,
            native.HeadNorms(),
            native.Rotation(None, None),
            True,
            mx.bfloat16,
            0,
        )
        assert len(found) == count
        for m, y in zip(made, found, strict=True):
            oracle.check(y, seen(heads(oracle.product(oracle.known(true), m, fast=False), 16), True))


def test_the_table_of_angles_follows_its_arguments() -> None:
    """It is kept from call to call: one changed position or frequency must be noticed, fewer or more of them too."""
    random = np.random.default_rng(3)
    x, true = array(random.normal(size=(40, 32)), mx.float32)
    m = weight(random, (32, 32), ("f32", 32, 0))
    positions, freqs = np.arange(40, dtype=np.int32), (10.0 ** (np.arange(8) / 8)).astype(np.float32)
    calls = [(positions, freqs, scale) for scale in (1.0, 0.5, 1.0)]
    calls += [(np.where(positions == at, 99, positions), freqs, 1.0) for at in (0, 1, 38, 39)]
    calls += [(positions, np.where(np.arange(8) == at, 3, freqs).astype(np.float32), 1.0) for at in (0, 1, 6, 7)]
    calls += [(positions[:n], freqs[:half], 1.0) for n, half in ((40, 8), (39, 8), (40, 8), (40, 7), (40, 8), (17, 3))]
    for places, turns, scale in calls:
        n = len(places)
        near = heads(oracle.product(oracle.known(true[:n]), m, fast=False), 16)
        turn = native.Rotation(mx.array(turns), mx.array(places), False, scale)
        (y,) = native.heads_of(x[:n], [m.packed], [], 16, native.HeadNorms(), turn, True, mx.float32)
        oracle.check(y, seen(turned(near, places, turns, interleaved=False, scale=scale), True))


def test_inputs_that_do_not_lie_in_order() -> None:
    random = np.random.default_rng(4)
    x = mx.array(random.normal(size=(32, 12)).astype(np.float32)).T[::2]
    m = weight(random, (32, 32), ("affine", 4, 32))
    positions, freqs = mx.arange(12, dtype=mx.int32)[::-2], mx.array([1.0, 9.0, 2.0, 9.0])[::2]
    turn = native.Rotation(freqs, positions, False)
    found = native.heads_of(x, [m.packed], [], 16, native.HeadNorms(), turn, False, mx.float32)
    ordered = mx.array(np.array(x))
    turn = native.Rotation(mx.array(np.array(freqs)), mx.array(np.array(positions)), False)
    wanted = native.heads_of(ordered, [m.packed], [], 16, native.HeadNorms(), turn, False, mx.float32)
    assert mx.array_equal(found[0], wanted[0])


def test_weights_that_integers_hold_are_multiplied_so_beside_others() -> None:
    """In any order of kinds: the same bits as alone."""
    random = np.random.default_rng(6)
    x = mx.array(random.normal(size=(3, 96)).astype(np.float32))
    made = three(random, 96, 16)
    for order in ((0, 1, 2), (0, 2, 1), (2, 0, 1)):
        packed = [made[i].packed for i in order]
        found = native.heads_of(
            x, packed, [], 16, native.HeadNorms(), native.Rotation(None, None), False, mx.float32, 1
        )
        several = native.project(x, packed, precision=1)
        for one, y, z in zip(packed, found, several, strict=True):
            alone = native.matmul(x, one, precision=1)
            assert mx.array_equal(y.reshape(3, -1), alone)
            assert mx.array_equal(z, alone)


def test_the_row_after_a_block_of_rows_is_its_own() -> None:
    """129 rows: a block and one more, which another thread has done long before the block is."""
    random = np.random.default_rng(5)
    x = mx.array(random.normal(size=(129, 96)).astype(np.float32))
    packed = [m.packed for m in three(random, 96, 64)]
    none = native.HeadNorms(), native.Rotation(None, None), False, mx.float32, 0
    native.set_threads(2)
    for _ in range(5):
        together = native.heads_of(x, packed, [], 64, *none)
        alone = native.heads_of(x[128:], packed, [], 64, *none)
        for one, among in zip(alone, together, strict=True):
            assert mx.array_equal(one, among[128:])
