"""Dequantizing: the nearest value of the type that was asked for, whatever type the scales have."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops.device import this_device
from mlxrun.ops.matmul import matmul
from mlxrun.ops.quantized import QuantizedWeight


@pytest.mark.parametrize("dtype", [None, mx.float32, mx.float16, mx.bfloat16])
def test_affine_weights_are_rounded_once(dtype: mx.Dtype | None) -> None:
    """Eight bits around zero, where scale * code and the bias nearly cancel."""
    random = np.random.default_rng(0)
    values = random.integers(-127, 128, (64, 32)).astype(np.int8)
    scales = (random.random((64, 1)) * 0.01).astype(np.float16)
    packed = mx.array((values.view(np.uint8) ^ 0x80).view(np.uint32))
    weight = QuantizedWeight(packed, mx.array(scales), mx.array(scales) * -128, "affine", 8, 32)
    expected = mx.array(scales.astype(np.float32) * values).astype(dtype or mx.float16)
    found = weight.dequantize(dtype)
    assert found.dtype == expected.dtype
    assert mx.array_equal(found, expected)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("groups", [2, 3, 6])
@pytest.mark.parametrize("dtype", [None, mx.float32, mx.bfloat16])
def test_groups_that_mlx_has_not(bits: int, groups: int, dtype: mx.Dtype | None) -> None:
    """Groups of 16, their codes cut out of a stream of bits by NumPy."""
    random = np.random.default_rng(bits)
    groups *= 1 + (bits % 2) * (groups % 2)  # a row is whole words
    codes = random.integers(0, 1 << bits, (3, 5, groups * 16))
    stream = (codes[..., None] >> np.arange(bits)) & 1
    packed = np.packbits(stream.astype(np.uint8).reshape(3, 5, -1), axis=-1, bitorder="little").view(np.uint32)
    scales, biases = (random.normal(size=(3, 5, groups)).astype(np.float32) for _ in range(2))
    weight = QuantizedWeight(mx.array(packed), mx.array(scales), mx.array(biases), "affine", bits, 16)
    assert not weight.in_mlx
    assert weight.shape == codes.shape
    values = codes * np.repeat(scales, 16, -1).astype(float) + np.repeat(biases, 16, -1)
    found = weight.dequantize(dtype)
    assert found.dtype == (dtype or mx.float32)
    rounding = 2**-8 if found.dtype == mx.bfloat16 else 2**-21
    np.testing.assert_allclose(np.array(found.astype(mx.float32)), values, rtol=rounding, atol=2.0**-24 * 256 * 4)
    x = mx.array(random.normal(size=(2, codes.shape[-1])).astype(np.float32))
    product = matmul(x, weight.rows(lambda part: part[1]), this_device())
    np.testing.assert_allclose(np.array(product), np.array(x) @ values[1].T, rtol=1e-4, atol=1e-3)
