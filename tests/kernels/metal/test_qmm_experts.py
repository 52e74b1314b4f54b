"""Prompts through a mixture: rows sorted by expert, against float64, by their bytes, and in a whole model."""

from __future__ import annotations

from collections import Counter

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.products import qmm, qmm_experts
from mlxrun.metal_kernels.tiles import MatrixTile

from mlxrun.loading.model import Model
from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import Device, this_device

from ..mslsim import Mode, settings
from .made import BY16, FORMATS, Weight, close, random, weight, wide
from .test_launches import models
from .test_qmm import rounded

MANY = (0,) * 3 + (1,) * 37 + (4,) + (5,) * 30  # one expert is a part of a tile, one more than two; 2, 3 have no row


def each(x: mx.array, exact: np.ndarray, ids: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Products, and the size of their terms."""
    rows = wide(x)
    pairs = [(row @ exact[e].T, np.abs(row) @ np.abs(exact[e].T)) for row, e in zip(rows, ids, strict=True)]
    return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])


@pytest.mark.parametrize("form", [*FORMATS, *BY16], ids=str)
@pytest.mark.parametrize(("dtype", "n", "k"), [(mx.float16, 45, 128), (mx.bfloat16, 32, 256)])
def test_close_to_float64(form: tuple[str, int, int], dtype: mx.Dtype, n: int, k: int) -> None:
    w, x = weight((6, n, k), form, dtype), random((len(MANY), k), dtype, 2)
    for order in (0, 2):
        with settings(order=order):
            y = qmm_experts(x, w, mx.array(MANY, mx.uint32))
        close(y, *each(x, rounded(w, dtype), MANY), slack=16)


@pytest.mark.parametrize("ids", [(5,), (3,) * 7, tuple(range(6)) * 2, (0,) * 32 + (1,) * 32], ids=str)
@pytest.mark.parametrize("tile", [MatrixTile(), MatrixTile(64, 32), MatrixTile(16, 16, True)], ids=str)
def test_every_tile_and_other_orders(ids: tuple[int, ...], tile: MatrixTile) -> None:
    w, x = weight((6, 50, 96), ("affine", 4, 32), mx.float32), random((len(ids), 96), mx.float32, 2)
    close(qmm_experts(x, w, mx.array(ids, mx.uint32), tile), *each(x, w.exact(), ids), slack=3)


def test_a_row_has_the_bits_that_it_has_with_its_expert_alone() -> None:
    w, x = weight((6, 40, 128), ("affine", 4, 64), mx.bfloat16), random((len(MANY), 128), mx.bfloat16, 2)
    y = qmm_experts(x, w, mx.array(MANY, mx.uint32))
    for expert in sorted(set(MANY)):
        own = Weight(*(p[expert] for p in w.parts), "affine", 4, 64)  # type: ignore[misc]  # three parts
        rows = mx.array([row for row, e in enumerate(MANY) if e == expert])
        assert mx.array_equal(y[rows], qmm(x[rows], own)).item()


@pytest.mark.parametrize("tile", [MatrixTile(), MatrixTile(64, 32)], ids=str)
def test_an_experts_weights_are_read_once_for_a_tile_of_its_rows(tile: MatrixTile) -> None:
    w, x = weight((6, 64, 256), ("affine", 4, 64), mx.bfloat16), random((len(MANY), 256), mx.bfloat16, 1)
    with settings() as launches:
        qmm_experts(x, w, mx.array(MANY, mx.uint32), tile)
    assert len(launches) == 1
    tiles = {(row // tile.rows, expert) for row, expert in enumerate(MANY)}
    read = [launches[0].buffers[n].fetched for n in ("w", "scales", "biases")]
    assert read == [len(tiles) * p.nbytes // 6 for p in w.parts]
    assert sum(read) <= 1.02 * w.nbytes * (len(MANY) / tile.rows + len(set(MANY))) / 6
    assert launches[0].buffers["y"].written == len(MANY) * 64 * 2


def test_a_prompt_through_a_mixture_takes_it() -> None:
    prompt = mx.arange(40) * 3 % 128  # 80 pairs of row and expert

    def hidden(device: Device) -> mx.array:
        model = Model(models("qwen3_moe", 1, mx.float32, device)[1])
        return model(prompt, [(model.new_sequence(64), 40)])

    expected = hidden(this_device("exact"))
    with settings(Mode.PLAIN) as launches:
        got = hidden(this_device("exact", chooser=Chooser("ours")))
    assert Counter(one.buffers["w"].size for one in launches if one.name == "mlxrun_qmm")[8 * 64 * 128 // 2] == 3
    assert np.abs(np.array(got - expected)).max() < 1e-4 * np.abs(np.array(expected)).max()


def test_bad_arguments_are_named() -> None:
    w, x = weight((6, 32, 64), ("affine", 4, 64), mx.float16), random((4, 64), mx.float16, 1)
    ids = mx.zeros((4,), mx.uint32)
    for call, message in (
        (lambda: qmm_experts(x, w, ids[:3]), r"ids must be uint32 of shape \(4,\)"),
        (lambda: qmm_experts(x, w, ids.astype(mx.int32)), "ids must be uint32"),
        (lambda: qmm_experts(x[:, :32], w, ids), r"x has shape \(4, 32\)"),
        (lambda: qmm(x, w), "w has 3 axes"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
