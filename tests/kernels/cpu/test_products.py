"""y = norm(x) . w^T + b (+ residual), in every form of weights, against float64."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxrun.cpu_kernels import native

from . import oracle
from .made import DTYPES, KINDS, Made, array, name_of, weight, wide

EXACT, FAST = 0, 1
Kind = tuple[str, int, int]
kinds = pytest.mark.parametrize("kind", KINDS, ids=name_of)
# K of real models and the smallest; N of whole panels, of pairs, and ragged
SHAPES = [(1, 33, 128), (2, 16, 128), (5, 47, 256), (8, 31, 384), (33, 65, 128)]
# rows where tiles of 8, 4, 2, 1 and blocks of rows end
ROWS = [0, 1, 2, 3, 4, 7, 8, 9, 12, 16, 17, 31, 33]


def whole_x(random: np.random.Generator, rows: int, inputs: int, precision: int = EXACT) -> np.ndarray:
    """Small whole numbers. For `fast`, three blocks of each row, with the largest number that a block can hold
    in each, so that its unit is 1."""
    x = random.integers(-3, 4, (rows, inputs)).astype(float)
    if precision == FAST:
        blocks = -(-inputs // oracle.BLOCK)
        for r in range(rows):
            live = (r + np.array([0, 1, blocks // 2])) % blocks
            x[r, ~np.isin(np.arange(inputs) // oracle.BLOCK, live)] = 0
            x[r, live * oracle.BLOCK + r % 16] = oracle.TOP
    return x


def product(x: np.ndarray, w: Made) -> np.ndarray:
    return x @ w.value.T


@kinds
@pytest.mark.parametrize("precision", [EXACT, FAST])
def test_sums_that_float32_holds_are_exact(isa: str, kind: Kind, precision: int) -> None:
    """No rounding happens, so nothing may differ: every code, row and column is where it belongs."""
    random = np.random.default_rng(1)
    for rows, outputs, inputs in SHAPES if isa != "base" else SHAPES[:3]:
        w = weight(random, (outputs, inputs), kind, whole=True)
        x = whole_x(random, rows, inputs, precision)
        y = native.matmul(mx.array(x.astype(np.float32)), w.packed, precision=precision)
        assert abs(product(x, w)).max() < 2**24
        np.testing.assert_array_equal(wide(y), product(x, w), err_msg=f"{rows} x {outputs} x {inputs}")


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", [("affine", 4, 64), ("affine", 6, 16), ("nvfp4", 4, 16), ("bf16", 16, 0)], ids=name_of)
def test_any_number_of_rows(kind: Kind, rows: int) -> None:
    random = np.random.default_rng(rows)
    w = weight(random, (49, 192), kind, whole=True)
    for precision in (EXACT, FAST):
        x = whole_x(random, rows, 192, precision)
        y = native.matmul(mx.array(x.astype(np.float32)), w.packed, precision=precision)
        np.testing.assert_array_equal(wide(y), product(x, w))


@kinds
@pytest.mark.parametrize("dtype", DTYPES)
def test_drawn_values(isa: str, kind: Kind, dtype: str) -> None:
    random = np.random.default_rng(2)
    w = weight(random, (35, 256), kind)
    x, true = array(random.normal(size=(5, 256)) * 10 ** random.uniform(-2, 2, (5, 1)), DTYPES[dtype])
    oracle.check(native.matmul(x, w.packed, precision=EXACT), oracle.product(oracle.known(true), w, fast=False))
    near = oracle.product(oracle.known(true), w, fast=native.integer())
    oracle.check(native.matmul(x, w.packed, precision=FAST), near)


@kinds
def test_fast_multiplies_whole_numbers_of_each_blocks_unit(isa: str, kind: Kind) -> None:
    """And rounds nothing else: also where a block is all zeros, or much smaller than the next."""
    random = np.random.default_rng(11)
    inputs = 272 if kind[1:] in ((2, 16), (4, 16), (6, 16), (8, 16)) else 256  # half a block at the end
    w = weight(random, (33, inputs), kind)
    sizes = np.repeat([1, 0, 1e-9, 30, 1e9, 1e-9, 0, 1, 1e-9], oracle.BLOCK)[:inputs]
    x = np.float32(random.normal(size=(9, inputs)) * sizes)
    exact, found = (native.matmul(mx.array(x), w.packed, precision=p) for p in (EXACT, FAST))
    if not (native.integer() and w.integers):
        assert mx.array_equal(exact, found)
        return
    most, top = abs(oracle.blocks_of(x)).max(-1), np.float32(oracle.TOP)
    steps, units = np.divide(top, most, where=most > 0, out=np.zeros_like(most)), most / top
    over = lambda blocks: blocks.repeat(oracle.BLOCK, -1)[:, :inputs]  # noqa: E731 short
    whole = np.rint(x * over(steps)).astype(float) * over(units)
    error = (2 * 9 * 2 + 8) * oracle.U * (abs(whole) @ w.gross.T) + oracle.TINY
    oracle.check(found, oracle.Near(whole @ w.value.T, error))
    assert not mx.array_equal(exact, found)


@pytest.mark.parametrize("scales", DTYPES)
@pytest.mark.parametrize("group", [16, 32])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_scales_of_any_type_with_and_without_biases(isa: str, bits: int, group: int, scales: str) -> None:
    random = np.random.default_rng(bits)
    x, true = array(random.normal(size=(3, 128)), mx.float32)
    for symmetric in (True, False):
        w = weight(random, (18, 128), ("affine", bits, group), dtype=DTYPES[scales], symmetric=symmetric)
        assert w.packed.symmetric is symmetric
        for precision in (EXACT, FAST):
            near = oracle.product(oracle.known(true), w, fast=precision == FAST and native.integer())
            oracle.check(native.matmul(x, w.packed, precision=precision), near)


@pytest.mark.parametrize(
    ("outputs", "inputs"), [(576, 576), (192, 576), (1536, 576), (576, 1536), (512, 4096), (40, 11008)]
)
def test_shapes_of_real_models(outputs: int, inputs: int) -> None:
    random = np.random.default_rng(3)
    w = weight(random, (outputs, inputs), ("affine", 4, 32))
    x, true = array(random.normal(size=(3, inputs)), mx.bfloat16)
    for precision in (EXACT, FAST):
        near = oracle.product(oracle.known(true), w, fast=precision == FAST and native.integer())
        oracle.check(native.matmul(x, w.packed, precision=precision), near)


def test_many_rows_are_cut_into_blocks() -> None:
    """More than the 128 rows that one piece of work takes."""
    random = np.random.default_rng(4)
    for kind in [("affine", 4, 32), ("f16", 16, 0)]:
        w = weight(random, (50, 320), kind, whole=True)
        for precision in (EXACT, FAST):
            x = whole_x(random, 300, 320, precision)
            y = native.matmul(mx.array(x.astype(np.float32)), w.packed, precision=precision)
            np.testing.assert_array_equal(wide(y), product(x, w))


@pytest.mark.parametrize("inputs", [1600, 5120])
def test_blocks_of_rows_are_whole_slots(inputs: int) -> None:
    """The second-level cache holds 122 and 38 rows, no whole number of slots: each row is the same alone."""
    random = np.random.default_rng(5)
    w = weight(random, (16, inputs), ("affine", 4, 32)).packed
    x, _ = array(random.normal(size=(140, inputs)), mx.float32)
    together = native.matmul(x, w, precision=FAST)
    for row in (0, 31, 32, 38, 39, 47, 99, 121, 122, 139):
        assert mx.array_equal(native.matmul(x[row : row + 1], w, precision=FAST)[0], together[row]), row


@given(st.data())
@settings(max_examples=60)
def test_plain_weights_of_any_shape(data: st.DataObject) -> None:
    """K need not be a multiple of anything."""
    draw = data.draw
    rows, outputs, inputs = draw(st.integers(0, 33)), draw(st.integers(0, 70)), draw(st.integers(1, 150))
    kind = draw(st.sampled_from([("f32", 32, 0), ("f16", 16, 0), ("bf16", 16, 0)]))
    assert native.choose_isa(draw(st.sampled_from(native.isas())))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    w = weight(random, (outputs, inputs), kind)
    x, true = array(random.normal(size=(rows, inputs)), draw(st.sampled_from(list(DTYPES.values()))))
    oracle.check(native.matmul(x, w.packed), oracle.product(oracle.known(true), w, fast=False))


@given(st.data())
@settings(max_examples=100)
def test_quantized_weights_of_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    kind = draw(st.sampled_from([k for k in KINDS if k[2]]))
    rows, outputs, groups = draw(st.integers(0, 20)), draw(st.integers(0, 40)), draw(st.integers(1, 5))
    groups += kind[1] * kind[2] * groups // 8 % 4 // 2  # a row is whole words
    assert native.choose_isa(draw(st.sampled_from(native.isas())))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    w = weight(random, (outputs, groups * kind[2]), kind)
    x, true = array(random.normal(size=(rows, groups * kind[2])), draw(st.sampled_from(list(DTYPES.values()))))
    precision = draw(st.sampled_from([EXACT, FAST]))
    near = oracle.product(oracle.known(true), w, fast=precision == FAST and native.integer())
    oracle.check(native.matmul(x, w.packed, precision=precision), near)


def views(random: np.random.Generator, dtype: mx.Dtype) -> dict[str, mx.array]:
    """Inputs of 64 values in a row that do not lie one after the other in memory."""
    base = mx.array(random.normal(size=(6, 4, 128)).astype(np.float32)).astype(dtype)
    return {
        "every other value": base[..., ::2],
        "columns": mx.swapaxes(base[..., :64].reshape(24, 64), 0, 1).reshape(64, 24)[:, :16].T.reshape(16, 64),
        "turned": mx.array(random.normal(size=(64, 7)).astype(np.float32)).astype(dtype).T,
        "part of a row": base[:, 1:3, 32:96],
        "every other row": base[::2, ::2, 64:],
        "backwards": base[::-1, ::-1, :64],
        "values backwards": base[..., 63::-1],
        "one row many times": mx.broadcast_to(base[0, :1, :64], (9, 64)),
        "spread": mx.broadcast_to(base[:, :1, :64], (6, 3, 64)),
        "one value many times": mx.broadcast_to(base[:1, :2, :1], (3, 2, 64)),
        "one row": base[2, 3, 64:],
        "an axis of one between": base[:, None, 1:3, 32:96],
        "an axis of one before": base[None, :, 2, :64],
        "an axis of one behind": base[:5, 1:2, 64:],
        "axes swapped": mx.swapaxes(base[..., 5:69], 0, 1),
        "no rows": base[:0, :, :64],
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_that_do_not_lie_in_order(dtype: str) -> None:
    random = np.random.default_rng(5)
    w = weight(random, (21, 64), ("affine", 4, 32), whole=True)
    for name, x in views(random, DTYPES[dtype]).items():
        ordered = mx.array(np.ascontiguousarray(wide(x)).astype(np.float32)).astype(x.dtype)
        for precision in (EXACT, FAST):
            y = native.matmul(x, w.packed, precision=precision)
            assert y.shape == (*x.shape[:-1], 21), name
            assert mx.array_equal(y, native.matmul(ordered, w.packed, precision=precision)), name
        oracle.check(y, oracle.product(oracle.known(wide(x)), w, fast=native.integer()), name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_bias_residual_and_several_weights(isa: str, dtype: str) -> None:
    random = np.random.default_rng(6)
    t = DTYPES[dtype]
    x, true = array(random.normal(size=(2, 3, 96)), t)
    norm, n = array(random.normal(size=96), mx.float16)
    kinds = {40: ("affine", 4, 32), 17: ("affine", 8, 32), 16: ("bf16", 16, 0), 33: ("mxfp4", 4, 32)}
    made = [weight(random, (size, 96), kind) for size, kind in kinds.items()]
    biases = [array(random.normal(size=40), mx.bfloat16), None, array(random.normal(size=16), mx.float32), None]
    for precision in (EXACT, FAST):
        fast = precision == FAST and native.integer()
        normed = oracle.rms_norm(oracle.known(true), n, 1e-5)
        found = native.project(
            x, [w.packed for w in made], [b and b[0] for b in biases], norm, 1e-5, precision=precision
        )
        for y, w, b in zip(found, made, biases, strict=True):
            near = oracle.product(normed, w, fast=fast)
            oracle.check(y, near + oracle.known(b[1]) if b else near)
        residual, r = array(random.normal(size=(2, 3, 40)), t)
        y = native.matmul(x, made[0].packed, biases[0][0], residual, precision)
        near = oracle.product(oracle.known(true), made[0], fast=fast) + oracle.known(r)
        oracle.check(y, near + oracle.known(biases[0][1]))


def test_vectors_that_do_not_lie_in_order() -> None:
    random = np.random.default_rng(7)
    x, true = array(random.normal(size=(3, 64)), mx.float32)
    w = weight(random, (20, 64), ("f32", 32, 0))
    norm, bias = mx.array(random.normal(size=(64, 2)).astype(np.float32)), mx.array(random.normal(size=40))
    residual = mx.array(random.normal(size=(20, 3)).astype(np.float32)).T
    (y,) = native.project(x, [w.packed], [bias.astype(mx.float16)[::-2]], norm[:, 1], 1e-6, residual)
    near = oracle.product(oracle.rms_norm(oracle.known(true), wide(norm[:, 1]), 1e-6), w, fast=False)
    near = near + oracle.known(wide(residual)) + oracle.known(wide(bias.astype(mx.float16)[::-2]))
    oracle.check(y, near)


@kinds
def test_infinities_and_nan(isa: str, kind: Kind) -> None:
    """As IEEE says, in their own row alone, whatever the precision."""
    random = np.random.default_rng(8)
    w = weight(random, (19, 128), kind, whole=True)
    for precision in (EXACT, FAST):
        x = whole_x(random, 9, 128, precision)
        x[1, 5], x[3, 70], x[4, 127], x[4, 0], x[6] = np.inf, np.nan, np.inf, -np.inf, -np.inf
        x[7, 20] = np.inf  # of its block only the second half knows of it
        with np.errstate(invalid="ignore"):
            wanted = product(x, w)
        oracle.check_ieee(native.matmul(mx.array(x.astype(np.float32)), w.packed, precision=precision), wanted)


def test_a_whole_block_of_rows_that_integers_cannot_hold(isa: str) -> None:
    """As many as one piece of work takes: each is multiplied as it is, by two panels and no more."""
    w = weight(np.random.default_rng(8), (32, 64), ("affine", 4, 32), whole=True)
    x = np.zeros((128, 64), np.float32)
    x[:, 3] = 2.0**121
    np.testing.assert_array_equal(wide(native.matmul(mx.array(x), w.packed)), product(x.astype(float), w))


def test_weights_that_are_no_numbers() -> None:
    """A scale, a code or a value may be NaN or infinite; its row of the result is, and no other."""
    x = mx.ones((2, 64))
    values = np.ones((20, 64), np.float32)
    values[3, 9], values[5, 1], values[17, 63] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        wanted = np.ones((2, 64)) @ values.T.astype(float)
    oracle.check_ieee(native.matmul(x, native.pack_plain(mx.array(values).astype(mx.float16))), wanted)
    codes, scales = np.full((20, 8), 0x22222222, np.uint32), np.full((20, 2), 127, np.uint8)
    scales[4, 1] = 255
    x, wanted = x * oracle.TOP, np.full((2, 20), 64.0 * oracle.TOP)
    wanted[:, 4] = np.nan
    for precision in (EXACT, FAST):
        packed = native.pack_quantized(mx.array(codes), mx.array(scales), None, "mxfp4", 4, 32)
        oracle.check_ieee(native.matmul(x, packed, precision=precision), wanted)


def test_every_scale_of_a_byte(isa: str) -> None:
    """E8M0 beside eight bits, E4M3 beside four; all codes are 1.0 and so is one value of x: a product is a scale."""
    codes = np.arange(256)
    x = np.zeros((1, 32), np.float32)
    x[0, 7] = 1
    powers = np.where(codes == 255, np.nan, 2.0 ** np.minimum(codes - 127, 127))
    fraction, exponent = codes % 8, codes // 8 % 16
    small = np.where(exponent == 0, fraction * 2.0**-9, (8 + fraction) * 2.0 ** (exponent - 10)) * np.where(
        codes > 127, -1, 1
    )
    ones8, ones4 = np.full((256, 8), 0x38383838, np.uint32), np.full((256, 4), 0x22222222, np.uint32)
    for precision in (EXACT, FAST):
        for words, group, mode, bits, wanted in ((ones8, 32, "mxfp8", 8, powers), (ones4, 16, "nvfp4", 4, small)):
            scales = np.repeat(codes.astype(np.uint8)[:, None], 32 // group, 1)
            packed = native.pack_quantized(mx.array(words), mx.array(scales), None, mode, bits, group)
            y = wide(native.matmul(mx.array(x), packed, precision=precision))[0]
            rows = native.table_rows(mx.arange(256, dtype=mx.int32), packed, mx.float32)
            np.testing.assert_array_equal(wide(rows), np.repeat(wanted[:, None], 32, 1))
            near = 0 if precision == EXACT else 1e-6  # x is an integer of its block's unit, and 1.0 is not exactly one
            assert np.allclose(y, wanted, rtol=near, atol=near * 2.0**-126, equal_nan=True)


@pytest.mark.parametrize("kind", [("affine", 4, 32), ("mxfp8", 8, 32), ("f32", 32, 0)], ids=name_of)
@pytest.mark.parametrize("size", [1e-40, 1e-37, 1e-30, 1e-20, 1e20, 1e30, 1e34, 3e38])
def test_values_at_the_ends_of_the_range(isa: str, kind: Kind, size: float) -> None:
    """What cannot be an integer of its block's unit is multiplied as it is; what overflows is infinite."""
    w = weight(np.random.default_rng(9), (18, 64), kind, whole=True)
    x = np.full((2, 64), np.float32(size), np.float64)
    x[1, ::2] = 0
    wanted = oracle.product(oracle.known(x), w, fast=False)
    for precision in (EXACT, FAST):
        y = wide(native.matmul(mx.array(x.astype(np.float32)), w.packed, precision=precision))
        limit = np.finfo(np.float32).max
        sure = abs(wanted.value) + 64 * size * 256 < limit  # nothing on the way overflows either
        near = oracle.product(oracle.known(x), w, fast=precision == FAST and native.integer())
        bound = near.error + 64 * 2.0**-149
        assert (abs(y - near.value)[sure] <= bound[sure]).all()
        assert not np.isnan(y[sure]).any()
    same = np.full((1, 64), np.float32(3e38), np.float32)
    y = native.matmul(mx.array(same), native.pack_plain(mx.ones((17, 64))))
    assert np.isposinf(wide(y)).all()
