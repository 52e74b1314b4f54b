"""Expert products against each row's own matrix: few rows and many, plain and quantized, any type."""

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops.device import this_device
from mlxrun.ops.experts import GROUP_FROM, dispatch, expert_matmul, reference
from mlxrun.ops.per_head import per_head
from mlxrun.ops.per_head import reference as per_head_reference
from mlxrun.ops.quantized import QuantizedWeight

EXPERTS, OUT, IN = 16, 24, 64
MODES = {"affine": (4, 32), "mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16), "groups of 16": (6, 16)}


def drawn(seed, *shape, dtype=mx.float32):
    return mx.array(np.random.default_rng(seed).standard_normal(shape), dtype)


def quantized(weight, mode):
    bits, group = MODES[mode]
    if mode == "groups of 16":  # every second group is the same as the one before it, in groups of 32
        packed, scales, biases = mx.quantize(weight, group_size=32, bits=bits)
        return QuantizedWeight(packed, *(mx.repeat(part, 2, -1) for part in (scales, biases)), "affine", bits, group)
    parts = mx.quantize(weight, group_size=group, bits=bits, mode=mode)
    return QuantizedWeight(parts[0], parts[1], parts[2] if len(parts) > 2 else None, mode, bits, group)


@pytest.mark.parametrize(
    "rows", [1, 5, 40]
)  # 2, 10 and 80 pairs: below the experts' number, below and above GROUP_FROM
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
@pytest.mark.parametrize("kind", ["plain", *MODES])
@pytest.mark.parametrize("with_bias", [False, True])
def test_every_row_meets_its_own_expert(rows, dtype, kind, with_bias):
    assert 10 < EXPERTS < GROUP_FROM <= 80
    ids = mx.array(np.random.default_rng(rows).integers(0, EXPERTS, (rows, 2)))
    x, plain = drawn(1, rows, IN, dtype=dtype), drawn(2, EXPERTS, OUT, IN, dtype=dtype)
    weight = plain if kind == "plain" else quantized(plain, kind)
    bias = drawn(3, EXPERTS, OUT, dtype=dtype) if with_bias else None
    d = dispatch(ids)
    got = d.collect(expert_matmul(d.spread(x), weight, d, this_device(), bias))
    assert got.shape == (rows, 2, OUT)
    assert got.dtype == dtype
    want = reference(mx.repeat(x, 2, axis=0), weight, ids.reshape(-1), bias).reshape(rows, 2, OUT)
    full = np.array(weight.dequantize(mx.float32) if kind != "plain" else weight.astype(mx.float32))[np.array(ids)]
    truth = np.einsum("tkoi,ti->tko", full.astype(np.float64), np.array(x.astype(mx.float32)))
    truth = truth if bias is None else truth + np.array(bias.astype(mx.float32))[np.array(ids)]
    rounding = {mx.float32: 2e-6, mx.bfloat16: 2**-8, mx.float16: 2**-11}[dtype]
    for y in (got, want):
        np.testing.assert_allclose(np.array(y.astype(mx.float32)), truth, atol=rounding * np.abs(truth).max() * 2)


def test_the_layout_comes_back():
    ids = mx.array(np.random.default_rng(0).integers(0, EXPERTS, (40, 2)))
    d = dispatch(ids)
    assert (np.diff(np.array(d.experts)) >= 0).all()
    rows, pairs = mx.arange(40)[:, None], mx.arange(80).reshape(40, 2)
    assert d.collect(d.spread(rows))[..., 0].tolist() == [[t, t] for t in range(40)]
    assert d.collect(d.spread_pairs(pairs))[..., 0].tolist() == pairs.tolist()
    assert d.collect(d.experts[:, None, None])[..., 0].tolist() == ids.tolist()


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("kind", ["plain", *MODES])
@pytest.mark.parametrize("as_it_lies", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_matrix_for_each_head(dtype, kind, as_it_lies, shared):
    heads, out, inp = 3, 96, 64
    plain = drawn(4, heads, *((inp, out) if as_it_lies else (out, inp)), dtype=dtype)
    weight = plain if kind == "plain" else quantized(plain, kind)
    x = drawn(5, 1, 1 if shared else heads, 7, inp, dtype=dtype)
    got = per_head(x, weight, this_device(), as_it_lies=as_it_lies)
    want = per_head_reference(x, weight, as_it_lies=as_it_lies)
    assert got.shape == (1, heads, 7, out)
    assert got.dtype == dtype
    full = np.array((weight if kind == "plain" else weight.dequantize(mx.float32)).astype(mx.float32), np.float64)
    truth = np.array(x.astype(mx.float32), np.float64) @ (full if as_it_lies else full.swapaxes(-1, -2))
    rounding = {mx.float32: 2e-6, mx.bfloat16: 2**-8}[dtype]
    for y in (got, want):
        np.testing.assert_allclose(np.array(y.astype(mx.float32)), truth, atol=rounding * np.abs(truth).max() * 2)
