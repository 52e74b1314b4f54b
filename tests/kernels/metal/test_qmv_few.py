"""The kernel for a few vectors at once: against float64, row by row, and by its bytes."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.products import qmv_few
from mlxrun.metal_kernels.tiles import FewTile

from ..mslsim import Mode, settings
from .made import BY16, FORMATS, close, random, weight, wide


@pytest.mark.parametrize("form", [*FORMATS, *BY16], ids=str)
@pytest.mark.parametrize(("dtype", "m", "n", "k"), [(mx.float16, 5, 30, 512), (mx.bfloat16, 11, 21, 384)])
def test_close_to_float64(form: tuple[str, int, int], dtype: mx.Dtype, m: int, n: int, k: int) -> None:
    w, x = weight((n, k), form, dtype), random((m, k), dtype, 2)
    exact = w.exact()
    for order in (0, 3):
        with settings(order=order):
            y = qmv_few(x, w)
        close(y, wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T), slack=3)


@pytest.mark.parametrize("tile", [FewTile(1, 1), FewTile(4, 2, True), FewTile(2, 8)], ids=str)
def test_every_tile(tile: FewTile) -> None:
    w, x = weight((50, 640), ("affine", 4, 64), mx.float32), random((16, 640), mx.float32, 2)
    exact = w.exact()
    y = qmv_few(x, w, tile)
    close(y, wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T), slack=3)


def test_a_row_does_not_depend_on_the_others() -> None:
    w, x = weight((24, 512), ("affine", 4, 64), mx.bfloat16), random((16, 512), mx.bfloat16, 2)
    with settings(Mode.PLAIN):
        whole = qmv_few(x, w)
        for m in (1, 5, 8, 9):
            assert mx.array_equal(qmv_few(x[:m], w), whole[:m])


@pytest.mark.parametrize("m", [6, 16])
@pytest.mark.parametrize("form", [*FORMATS, *BY16], ids=str)
def test_every_weight_is_read_once(form: tuple[str, int, int], m: int) -> None:
    w, x = weight((64, 1024), form, mx.bfloat16), random((m, 1024), mx.bfloat16, 1)
    with settings() as launches:
        qmv_few(x, w)
    buffers = launches[0].buffers
    assert sum(buffers[name].fetched for name in ("w", "scales", "biases")) <= 1.02 * w.nbytes
    assert buffers["w"].asked == w.packed.nbytes
    assert buffers["x"].fetched == x.nbytes * 64 // 16  # once for sixteen outputs, from cache
    assert len(launches) == 1


def test_bad_arguments_are_named() -> None:
    w, x = weight((8, 48), ("nvfp4", 4, 16), mx.float16), random((5, 48), mx.float16, 1)
    with pytest.raises(ValueError, match="K = 48 is not a multiple of 32"):
        qmv_few(x, w)
    with pytest.raises(ValueError, match="17 rows"):
        qmv_few(random((17, 64), mx.float16, 1), weight((8, 64), ("affine", 4, 64), mx.float16))
