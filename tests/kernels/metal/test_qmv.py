"""The matrix-vector kernel: against float64, against MLX's own bits, and by its bytes."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.products import qmv
from mlxrun.metal_kernels.tiles import VectorTile

from ..mslsim import Mode, settings, upstream
from .made import BY16, FLOATS, FORMATS, close, random, weight, wide

RAGGED = ((1, 128), (7, 192), (33, 544), (130, 1056))  # N, K; K is made a multiple of the group
KINDS = [(form, dtype) for form in FORMATS for dtype in FLOATS if dtype != mx.float32 or form == ("affine", 4, 64)]


def shape_for(n: int, k: int, group: int) -> tuple[int, int]:
    return n, max(group, k // group * group)


@pytest.mark.parametrize(("form", "dtype"), [*KINDS, *((form, mx.float32) for form in BY16)], ids=str)
def test_close_to_float64_on_ragged_shapes(form: tuple[str, int, int], dtype: mx.Dtype) -> None:
    for order, (n, k) in enumerate(RAGGED):
        w = weight(shape_for(n, k, form[2]), form, dtype)
        exact = w.exact()
        for m in (1, 4):
            x = random((m, exact.shape[1]), dtype, m)
            with settings(order=order):
                y = qmv(x, w)
            close(y, wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T))


@pytest.mark.parametrize(("n", "k"), [(1536, 576), (576, 1536), (3072, 1024), (4096, 2560)])
def test_close_to_float64_on_shapes_of_real_models(n: int, k: int) -> None:
    w = weight((n, k), ("affine", 4, 64), mx.bfloat16)
    exact, x = w.exact(), random((3, k), mx.bfloat16, 7)
    with settings(Mode.PLAIN):
        close(qmv(x, w), wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T))


@pytest.mark.parametrize("tile", [VectorTile(1, 4), VectorTile(2, 2, True), VectorTile(8, 1)], ids=str)
def test_the_tile_changes_no_bit(tile: VectorTile) -> None:
    w = weight((45, 704), ("affine", 4, 64), mx.bfloat16)
    x = random((2, 704), mx.bfloat16, 5)
    assert mx.array_equal(qmv(x, w, tile), qmv(x, w))


@pytest.mark.parametrize("form", [*FORMATS, *BY16], ids=str)
@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.CONTRACTED])
def test_rows_are_the_same_bits_alone_and_together(form: tuple[str, int, int], mode: Mode) -> None:
    """So that checking guessed tokens gives what one token at a time would have given."""
    w = weight((40, 1152), form, mx.bfloat16)
    x = random((4, 1152), mx.bfloat16, 3)
    with settings(mode):
        alone = mx.concatenate([qmv(x[m : m + 1], w) for m in range(4)])
        for m in (2, 3, 4):
            assert mx.array_equal(qmv(x[:m], w), alone[:m])


@pytest.mark.parametrize(("form", "dtype"), [*KINDS, (("mxfp4", 4, 32), mx.float32)], ids=str)
def test_the_same_bits_as_mlx(form: tuple[str, int, int], dtype: mx.Dtype) -> None:
    """Where MLX would use its fast kernel. Where the compiler may fuse products and sums, it chooses alike for
    four-bit affine weights; for other formats it may choose otherwise in the two texts."""
    w, x = weight((32, 1024), form, dtype), random((4, 1024), dtype, 4)
    kernel = upstream.qmv() if form[0] == "affine" else upstream.fp_qmv()
    for mode in (Mode.PLAIN, Mode.CONTRACTED)[: 2 if form[:2] == ("affine", 4) else 1]:
        with settings(mode):
            expected = upstream.run(kernel, x, w.parts, {"GROUP": w.group, "BITS": w.bits})
            assert mx.array_equal(qmv(x, w), expected)
            assert mx.array_equal(qmv(x[:1], w, VectorTile(2, 2, True)), expected[:1])


@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("form", [*FORMATS, *BY16], ids=str)
def test_every_weight_is_read_once(form: tuple[str, int, int], m: int) -> None:
    w = weight((256, 2048), form, mx.bfloat16)
    x = random((m, 2048), mx.bfloat16, 1)
    with settings() as launches:
        qmv(x, w)
    buffers = launches[0].buffers
    read = sum(buffers[name].fetched for name in ("w", "scales", "biases"))
    assert read <= 1.02 * w.nbytes
    assert buffers["w"].asked <= 1.02 * w.packed.nbytes
    assert buffers["x"].asked == x.nbytes * 256 // 4  # once for four outputs, from cache
    assert len(launches) == 1


def test_mlx_reads_more_for_six_vectors_than_for_five() -> None:
    """The baseline, counted the same way: the weights are read twice from six rows on."""
    w, kernel = weight((64, 512), ("affine", 4, 64), mx.bfloat16), upstream.qmv_wide()
    for rows, at_once, times in ((5, 5, 1), (6, 3, 2)):
        with settings() as launches:
            x = random((rows, 512), mx.bfloat16, 1)
            upstream.run(kernel, x, w.parts, {"GROUP": 64, "BITS": 4, "VECTORS": at_once}, at_once)
        assert launches[0].buffers["w"].fetched == times * w.packed.nbytes


def test_bad_arguments_are_named() -> None:
    w, x = weight((8, 128), ("affine", 4, 64), mx.float16), random((1, 128), mx.float16, 1)
    for bad, message in (
        ((x.astype(mx.int32), w), "x is mlx.core.int32"),
        ((x.astype(mx.float32), w), "scales are mlx.core.float16, x is mlx.core.float32"),
        ((x[:, :64], w), r"x has shape \(1, 64\); w needs \(M, 128\)"),
        ((mx.concatenate([x] * 5), w), "5 rows"),
        ((x, weight((8, 128), ("affine", 6, 64), mx.float16)), "No kernel for mode affine with 6 bits"),
    ):
        with pytest.raises(ValueError, match=message):
            qmv(*bad)
