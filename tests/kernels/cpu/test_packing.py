"""What packing finds out about a weight: whether one code stands for zero everywhere, so that no biases are kept."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from .made import packed_codes, wide

ROWS, GROUPS, GROUP, ZERO = 9, 32, 32, 8  # 288 groups: more than are looked at in one go


@pytest.mark.parametrize("place", [None, 0, 1, 255, 256, 257, ROWS * GROUPS - 1])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_a_single_group_whose_zero_lies_elsewhere_keeps_the_biases(place: int | None, dtype: mx.Dtype) -> None:
    random = np.random.default_rng(1)
    codes = random.integers(0, 16, (ROWS, GROUPS * GROUP))
    scales = random.choice([-1.0, 0.5, 2.0], (ROWS, GROUPS))
    biases = -ZERO * scales
    if place is not None:
        biases.flat[place] += 1
    words, parts = mx.array(packed_codes(codes, 4)), [mx.array(a).astype(dtype) for a in (scales, biases)]
    packed = native.pack_quantized(words, *parts, "affine", 4, GROUP)
    assert packed.symmetric == (place is None)
    found = native.table_rows(mx.arange(ROWS, dtype=mx.int32), packed, mx.float32)
    value = codes * np.repeat(scales, GROUP, axis=-1) + np.repeat(biases, GROUP, axis=-1)
    np.testing.assert_array_equal(wide(found), value)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_weight_takes_the_memory_of_its_codes_and_scales(symmetric: bool) -> None:
    """Panels of 16 rows; biases only where zero is not the same code everywhere."""
    codes, scales = mx.zeros((33, 16), mx.uint32), mx.ones((33, 4), mx.float16)
    packed = native.pack_quantized(codes, scales, -scales * (ZERO if symmetric else 7), "affine", 4, GROUP)
    assert packed.nbytes == 3 * (16 * 128 // 2 + 16 * 4 * 2 * (1 if symmetric else 2))


def test_a_large_weight_has_all_of_its_memory() -> None:
    """One that is too large to share a chunk with others gets as much as it fills."""
    values = mx.ones((2304, 1024))
    mx.eval(values)
    before = mx.get_active_memory()
    packed = native.pack_plain(values)
    assert packed.nbytes == values.nbytes
    assert mx.get_active_memory() >= before + packed.nbytes


def test_weights_that_share_memory_lie_beside_each_other() -> None:
    """Of several sizes, together more than one chunk of 32 MB holds: none lies in another, or past the end."""
    packed = [native.pack_plain(mx.full((rows, 1024), float(rows))) for rows in range(200, 296, 2)]
    assert sum(w.nbytes for w in packed) > 40 << 20
    for rows, w in zip(range(200, 296, 2), packed, strict=True):
        ends = native.table_rows(mx.array([0, rows - 1], mx.int32), w, mx.float32)
        assert mx.array_equal(ends, mx.full((2, 1024), float(rows)))
