"""Dequantizing: the nearest value of the type that was asked for, whatever type the scales have."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

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
