"""The residual sum with its norm."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.norms import add_norm

from ..mslsim import settings
from .made import FLOATS, close, random, wide


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("width", [5, 576, 4100])
def test_against_float64(dtype: mx.Dtype, width: int) -> None:
    x, y, w = random((3, width), dtype, 1), random((3, width), dtype, 2), random((width,), dtype, 3)
    for order in (0, 2):
        with settings(order=order) as launches:
            total, normed = add_norm(x, y, w, 1e-5)
        assert mx.array_equal(total, x + y)
        t = wide(total)
        close(normed, t / np.sqrt((t * t).mean(1, keepdims=True) + 1e-5) * wide(w), np.abs(t), slack=3)
    assert launches[0].buffers["x"].asked == x.nbytes
    assert launches[0].buffers["total"].written == x.nbytes


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"y is .*float16, x is .*float32"):
        add_norm(mx.zeros((1, 8)), mx.zeros((1, 8), mx.float16), mx.zeros((8,)), 1e-5)
