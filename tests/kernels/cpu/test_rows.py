"""Rows of packed tables, conversions between types, and the RMS norm."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxrun.cpu_kernels import native

from . import oracle
from .made import DTYPES, KINDS, array, name_of, weight, wide

Kind = tuple[str, int, int]


def near_row(w: np.ndarray, gross: np.ndarray) -> oracle.Near:
    """Two roundings at most: of code * scale, and of the sum."""
    return oracle.Near(w, 2 * oracle.U * (gross + abs(w)) + oracle.TINY)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_rows_are_the_weights(isa: str, kind: Kind) -> None:
    """What was packed comes out again: the packing of every form, of whole and short panels."""
    random = np.random.default_rng(1)
    for rows, cols in [(1, 128), (37, 384)]:
        exact = weight(random, (rows, cols), kind, whole=True)
        ids = mx.array(random.permutation(rows).astype(np.int32))
        found = native.table_rows(ids, exact.packed, mx.float32)
        np.testing.assert_array_equal(wide(found), exact.value[np.array(ids)])
        drawn = weight(random, (rows, cols), kind)
        for dtype in DTYPES.values():
            found = native.table_rows(ids, drawn.packed, dtype)
            oracle.check(found, near_row(drawn.value[np.array(ids)], drawn.gross[np.array(ids)]))


def test_half_blocks_and_odd_columns() -> None:
    random = np.random.default_rng(2)
    for kind, cols in [
        *[((mode, bits, 16), cols) for mode, bits in (("nvfp4", 4), ("affine", 6), ("affine", 2)) for cols in (16, 48)],
        (("f16", 16, 0), 1),
        (("bf16", 16, 0), 77),
    ]:
        w = weight(random, (21, cols), kind, whole=True)
        found = native.table_rows(mx.arange(21, dtype=mx.int32), w.packed, mx.float32)
        np.testing.assert_array_equal(wide(found), w.value)


def test_ids_of_any_shape_and_outside_the_table() -> None:
    w = weight(np.random.default_rng(3), (10, 64), ("affine", 8, 64), whole=True)
    ids = np.array([[0, -1, 9], [10, 3, 2**31 - 1], [-(2**31), 5, 5]], np.int32)
    known = (ids >= 0) & (ids < 10)
    wanted = np.where(known[..., None], w.value[np.where(known, ids, 0)], np.nan)
    np.testing.assert_array_equal(wide(native.table_rows(mx.array(ids), w.packed, mx.bfloat16)), wanted)
    turned = native.table_rows(mx.array(ids).T[::-1], w.packed, mx.float32)
    np.testing.assert_array_equal(wide(turned), np.swapaxes(wanted, 0, 1)[::-1])
    assert native.table_rows(mx.array(4, mx.int32), w.packed, mx.float32).shape == (64,)
    assert native.table_rows(mx.zeros((0, 3), mx.int32), w.packed, mx.float32).shape == (0, 3, 64)


def test_many_ids() -> None:
    w = weight(np.random.default_rng(4), (50, 64), ("affine", 4, 64), whole=True)
    ids = np.arange(1000, dtype=np.int32) % 50
    np.testing.assert_array_equal(wide(native.table_rows(mx.array(ids), w.packed, mx.float16)), w.value[ids])


def bits_of(values: np.ndarray, exponent: int, mantissa: int) -> np.ndarray:
    """float64 to the nearest number of so many bits, ties to even; beyond the largest: infinite."""
    bias = (1 << (exponent - 1)) - 1
    _, power = np.frexp(values)
    step = np.exp2(np.maximum(power - 1, 1 - bias).astype(float) - mantissa)
    with np.errstate(invalid="ignore"):
        near = np.round(values / step) * step
    largest = (2 - 2.0**-mantissa) * 2.0**bias
    return np.where(abs(near) > largest, np.copysign(np.inf, values), near)


@pytest.mark.parametrize(("dtype", "fields"), [(mx.float16, (5, 10)), (mx.bfloat16, (8, 7))])
def test_every_number_is_read_and_written(isa: str, dtype: mx.Dtype, fields: tuple[int, int]) -> None:
    """All 65536 of a type; then float32 around each and around each middle of two, rounded to the nearest."""
    stored = mx.view(mx.array(np.arange(1 << 16, dtype=np.uint16)), dtype).reshape(-1, 16)
    rows = mx.arange(stored.shape[0], dtype=mx.int32)
    read = np.array(native.table_rows(rows, native.pack_plain(stored), mx.float32))
    raw = np.arange(1 << 16, dtype=np.uint32)
    true = raw.astype(np.uint16).view(np.float16).astype(np.float32) if fields[0] == 5 else (raw << 16).view(np.float32)
    np.testing.assert_array_equal(read.ravel(), true)
    finite = np.sort(true[np.isfinite(true)].astype(np.float64))
    middles = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    near = [middles, np.nextafter(middles, np.float32(np.inf)), np.nextafter(middles, np.float32(-np.inf))]
    edges = np.array([np.inf, -np.inf, np.nan, 65519.996, 65520, 3.3961775e38, 3.4e38, 1e-45, -1e-45, -0.0], np.float32)
    values = np.concatenate([finite.astype(np.float32), *near, edges])
    values = np.pad(values, (0, -len(values) % 16)).reshape(-1, 16)
    found = native.table_rows(mx.arange(len(values), dtype=mx.int32), native.pack_plain(mx.array(values)), dtype)
    np.testing.assert_array_equal(wide(found), bits_of(values.astype(np.float64), *fields))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 7, 16, 33, 576, 4096])
def test_rms_norm(isa: str, dtype: str, width: int) -> None:
    random = np.random.default_rng(width)
    x, true = array(random.normal(size=(2, 3, width)) * 10 ** random.uniform(-3, 3, (2, 3, 1)), DTYPES[dtype])
    for eps in (1e-5, 1e-6, 0.0):
        y = native.rms_norm(x, None, eps)
        assert y.dtype == x.dtype
        oracle.check(y, oracle.rms_norm(oracle.known(true), None, eps))
        for kind in DTYPES.values():
            weight, w = array(random.normal(size=width), kind)
            y = native.rms_norm(x, weight, eps)
            assert y.dtype == mx.result_type(x, weight)
            oracle.check(y, oracle.rms_norm(oracle.known(true), w, eps))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 7, 16, 33, 576, 4096])
def test_layer_norm(isa: str, dtype: str, width: int) -> None:
    random = np.random.default_rng(width)
    sizes = 10 ** random.uniform(-3, 3, (2, 3, 1))
    x, true = array((random.normal(size=(2, 3, width)) + random.normal(size=(2, 3, 1))) * sizes, DTYPES[dtype])
    for eps in (1e-5, 1e-6):
        y = native.layer_norm(x, None, None, eps)
        assert y.dtype == x.dtype
        oracle.check(y, oracle.layer_norm(oracle.known(true), None, None, eps))
        for kind in DTYPES.values():
            weight, w = array(random.normal(size=width), kind)
            bias, b = array(random.normal(size=width), kind)
            y = native.layer_norm(x, weight, bias, eps)
            assert y.dtype == mx.result_type(x, weight)
            oracle.check(y, oracle.layer_norm(oracle.known(true), w, b, eps))
            oracle.check(native.layer_norm(x, None, bias, eps), oracle.layer_norm(oracle.known(true), None, b, eps))


@given(st.data())
@settings(max_examples=50)
def test_rms_norm_of_any_view(data: st.DataObject) -> None:
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 99)))
    shape = [*draw(st.lists(st.integers(0, 6), min_size=1, max_size=3)), draw(st.integers(1, 40))]
    x = mx.array(random.normal(size=[2 * n for n in shape]).astype(np.float32))
    x = x.astype(draw(st.sampled_from(list(DTYPES.values()))))
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, 2, -1, -2]))) for _ in shape)]
    found = native.rms_norm(x, None, 1e-5)
    if x.shape[-1]:
        oracle.check(found, oracle.rms_norm(oracle.known(wide(x)), None, 1e-5))


def test_rms_norm_at_the_ends() -> None:
    """Zeros stay zeros, NaN stays in its row, an infinite sum makes what is finite 0."""
    x = np.ones((5, 32), np.float32)
    x[0], x[1, 3], x[2, 4], x[3] = 0, np.nan, np.inf, 1e-40
    y = np.array(native.rms_norm(mx.array(x), None, 1e-5))
    assert (y[0] == 0).all()
    assert np.isnan(y[1]).all()
    assert np.isnan(y[2, 4])
    assert (np.delete(y[2], 4) == 0).all()
    assert np.isfinite(y[3]).all()
    np.testing.assert_allclose(y[4], 1, rtol=1e-5)
