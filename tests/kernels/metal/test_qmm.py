"""The kernel for prompts: against float64 with weights rounded as it rounds them, and by its bytes."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.products import qmm
from mlxrun.metal_kernels.tiles import MatrixTile

from ..mslsim import settings, upstream
from .made import BY16, FORMATS, Weight, close, random, weight, wide


def rounded(w: Weight, dtype: mx.Dtype) -> np.ndarray:
    return wide(mx.array(w.exact().astype(np.float32)).astype(dtype))


@pytest.mark.parametrize("form", [*FORMATS, *BY16], ids=str)
@pytest.mark.parametrize(("dtype", "m", "n", "k"), [(mx.float16, 37, 45, 256), (mx.bfloat16, 16, 70, 128)])
def test_close_to_float64(form: tuple[str, int, int], dtype: mx.Dtype, m: int, n: int, k: int) -> None:
    w, x = weight((n, k), form, dtype), random((m, k), dtype, 2)
    exact = rounded(w, dtype)
    for order in (0, 2):
        with settings(order=order):
            y = qmm(x, w)
        # a weight may be rounded the other way where float32 and float64 differ in its last bit
        close(y, wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T), slack=16)


@pytest.mark.parametrize("tile", [MatrixTile(64, 32), MatrixTile(32, 64, True), MatrixTile(16, 16)], ids=str)
def test_every_tile(tile: MatrixTile) -> None:
    w, x = weight((50, 160), ("affine", 4, 32), mx.float32), random((70, 160), mx.float32, 2)
    close(qmm(x, w, tile), wide(x) @ w.exact().T, np.abs(wide(x)) @ np.abs(w.exact().T), slack=3)


def test_weights_are_read_once_for_a_tile_of_rows() -> None:
    w, x = weight((64, 512), ("affine", 4, 64), mx.bfloat16), random((64, 512), mx.bfloat16, 1)
    with settings() as launches:
        qmm(x, w, MatrixTile(64, 32))
    buffers = launches[0].buffers
    assert [buffers[n].fetched for n in ("w", "scales", "biases")] == [p.nbytes for p in w.parts]
    assert buffers["w"].asked == w.packed.nbytes
    assert buffers["x"].asked == 2 * x.nbytes


@pytest.mark.parametrize(("m", "n"), [(32, 64), (40, 70)])
def test_beside_the_kernel_of_mlx(m: int, n: int) -> None:
    """The same products, and no more bytes of weights or of threadgroup memory than its tiles take."""
    w, x = weight((n, 256), ("affine", 4, 64), mx.bfloat16), random((m, 256), mx.bfloat16, 1)
    with settings() as launches:
        theirs = upstream.run_qmm_t(upstream.qmm_t(), x, w.parts, 64, 4)
        ours = qmm(x, w)
    exact = rounded(w, mx.bfloat16)
    for y in (theirs, ours):  # MLX rounds scale * code before it adds the bias
        close(y, wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T) * (2.0**13 if y is theirs else 1.0), slack=16)
    baseline, own = launches
    assert own.buffers["w"].fetched <= baseline.buffers["w"].fetched
    assert own.threadgroup_memory.size <= baseline.threadgroup_memory.size
