"""Norms, rotations and the best token, folded into the products of a decode step: against float64 and in their bits."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.experts import experts_in, experts_out, gate_up
from mlxrun.metal_kernels.glue import HeadNorm, HeadTurn, greedy, heads, project
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmv
from mlxrun.metal_kernels.tiles import VectorTile

from ..mslsim import Mode, settings
from .made import BY16, FLOATS, FORMATS, ROUNDING, close, normed, random, turned, weight, wide
from .test_experts import IDS, gated, near, small

EPS = 1e-5
NOT_A_NUMBER = 2**32 - 1
KINDS = [(form, dtype) for form in FORMATS for dtype in FLOATS if dtype != mx.float32 or form == FORMATS[1]]


@pytest.mark.parametrize(("form", "dtype"), [*KINDS, *((form, mx.float32) for form in BY16)], ids=str)
def test_a_norm_before_three_matrices(form: tuple[str, int, int], dtype: mx.Dtype) -> None:
    widths = (37, 9, 16)
    matrices = [weight((n, 640), form, dtype, seed) for seed, n in enumerate(widths)]
    x, norm = random((4, 640), dtype, 5, 3.0), random((640,), dtype, 6) + 1
    added = random((sum(widths),), dtype, 7)
    rows = normed(wide(x), wide(norm), EPS)
    exact = np.concatenate([rows @ w.exact().T for w in matrices], axis=1)
    terms = np.concatenate([np.abs(rows) @ np.abs(w.exact().T) for w in matrices], axis=1)
    for order, m in ((0, 4), (2, 1)):
        with settings(order=order) as launches:
            y = project(Normed(x[:m], norm, EPS), matrices, added)
        assert len(launches) == 1
        close(y, exact[:m] + wide(added), terms[:m], slack=3)
    close(project(Normed(x, norm, EPS), matrices[1:], dtype=mx.float32), exact[:, 37:], terms[:, 37:], slack=3)


def test_a_norm_before_matrices_reads_each_weight_once() -> None:
    matrices = [weight((n, 2048), FORMATS[1], mx.bfloat16, n) for n in (128, 32, 32)]
    x, norm = random((2, 2048), mx.bfloat16, 1), random((2048,), mx.bfloat16, 2)
    with settings() as launches:
        project(Normed(x, norm, EPS), matrices)
    buffers = launches[0].buffers
    for i, w in enumerate(matrices):
        read = sum(buffers[f"{name}{i}"].fetched for name in ("w", "scales", "biases"))
        assert read <= 1.02 * w.nbytes
        assert buffers[f"w{i}"].asked <= 1.02 * w.packed.nbytes


@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.CONTRACTED])
def test_rows_with_a_norm_are_the_same_bits_alone_and_together(mode: Mode) -> None:
    matrices = [weight((n, 640), FORMATS[1], mx.bfloat16, n) for n in (24, 8)]
    x, norm = random((4, 640), mx.bfloat16, 1), random((640,), mx.bfloat16, 2)
    with settings(mode):
        whole = project(Normed(x, norm, EPS), matrices)
        for m in range(4):
            alone = project(Normed(x[m : m + 1], norm, EPS), matrices, tile=VectorTile(2, 4))
            assert mx.array_equal(alone, whole[m : m + 1])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_residual_is_added_as_if_afterwards(dtype: mx.Dtype) -> None:
    w, x, residual = weight((33, 320), FORMATS[1], dtype), random((3, 320), dtype, 2), random((3, 33), dtype, 3)
    assert mx.array_equal(qmv(x, w, residual=residual), qmv(x, w) + residual)
    down, hidden = weight((6, 21, 320), FORMATS[1], dtype), random((10, 320), dtype, 3)
    weights, rest = mx.softmax(random((5, 2), mx.float32, 6), axis=-1), random((5, 21), dtype, 4)
    with settings(order=2):
        y = experts_out(hidden, IDS, weights, down, residual=rest)
    assert mx.array_equal(y, experts_out(hidden, IDS, weights, down) + rest)


@pytest.mark.parametrize("act", ["silu", "gelu_tanh", "clamped_swiglu"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_norm_before_gate_and_up(dtype: mx.Dtype, act: str) -> None:
    gate, up = small(weight((19, 576), FORMATS[1], dtype)), small(weight((19, 576), FORMATS[1], dtype, 2))
    x, norm = random((3, 576), dtype, 1, 2.0), random((576,), dtype, 6, 0.1)
    added = (random((19,), dtype, 8), random((19,), dtype, 9)) if act == "clamped_swiglu" else ()
    rows = normed(wide(x), wide(norm), EPS)
    sums = [rows @ w.exact().T for w in (gate, up)]
    for i, a in enumerate(added):
        sums[i] += wide(a)
    with settings(order=2):
        near(gate_up(Normed(x, norm, EPS), gate, up, act, added), gated(act, *sums), 0.2)


def test_a_norm_before_experts() -> None:
    gate, up = (small(weight((6, 19, 640), FORMATS[1], mx.bfloat16, s)) for s in (1, 2))
    x, norm = random((5, 640), mx.bfloat16, 3, 2.0), random((640,), mx.bfloat16, 6, 0.1)
    rows, experts = normed(wide(x), wide(norm), EPS)[np.repeat(np.arange(5), 2)], np.array(IDS).ravel()
    sums = [np.einsum("pk,pnk->pn", rows, w.exact()[experts]) for w in (gate, up)]
    near(experts_in(Normed(x, norm, EPS), IDS, gate, up, "silu"), gated("silu", *sums), 0.2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("size", "pairs", "interleaved", "has_norm"),
    [
        (64, 32, False, True),
        (128, 64, True, True),
        (80, 20, False, False),
        (256, 128, False, True),
        (96, 0, False, True),
    ],
)
def test_heads_are_normed_and_turned(dtype: mx.Dtype, size: int, pairs: int, interleaved: bool, has_norm: bool) -> None:
    counts, rows = (5, 2, size), 3
    x = random((rows, 9 * size), dtype, 1)
    positions = mx.array([0, 77, 4095], mx.int32)
    freqs = mx.array(10000.0 ** (np.arange(pairs) / max(1, pairs)), mx.float32)
    turn = HeadTurn(freqs, 1.25, interleaved) if pairs else None
    norm = HeadNorm(random((size,), dtype, 2) + 1, random((size,), dtype, 3) + 1, EPS) if has_norm else None
    for order in (0, 2):
        with settings(order=order) as launches:
            q, k = heads(x, counts, positions, turn, norm)
    assert len(launches) == 1
    assert launches[0].buffers["q"].written == q.nbytes
    folded = wide(x).reshape(rows, 9, size)
    for got, part, w in ((q, folded[:, :5], norm and norm.q), (k, folded[:, 5:7], norm and norm.k)):
        exact = part if w is None else normed(part, wide(w), EPS)
        if turn:
            exact = turned(exact, np.array(positions), np.array(freqs, np.float64), 1.25, interleaved)
        error = np.abs(wide(got) - exact)
        # an angle of 4095 is known to 2^-13 in float32
        assert error.max() <= (2 * ROUNDING[dtype] + 3e-4) * np.abs(exact).max()


@pytest.mark.parametrize(("form", "dtype"), KINDS, ids=str)
def test_the_best_token_is_that_of_the_logits(form: tuple[str, int, int], dtype: mx.Dtype) -> None:
    """The very one, with logits rounded to their type: of equals the first."""
    w, x = weight((300, 384), form, dtype), random((3, 384), dtype, 2)
    logits = qmv(x, w)
    for order in (0, 2):
        with settings(order=order) as launches:
            ids = greedy(x, w)
    assert ids.tolist() == mx.argmax(logits, axis=-1).tolist()
    assert len(launches) == 2
    assert sum(launches[0].buffers[n].fetched for n in ("w", "scales", "biases")) <= 1.02 * w.nbytes
    assert launches[0].buffers["best"].written == 3 * 5 * 4  # a number for 64 outputs, not 300 logits


def test_the_best_token_after_a_norm() -> None:
    w, x, norm = (
        weight((300, 320), FORMATS[1], mx.float32),
        random((2, 320), mx.float32, 2),
        random((320,), mx.float32, 3),
    )
    exact = normed(wide(x), wide(norm), EPS) @ w.exact().T
    assert greedy(Normed(x, norm, EPS), w).tolist() == exact.argmax(1).tolist()


def test_of_equal_logits_the_first_wins() -> None:
    w = weight((1, 64), FORMATS[1], mx.float16)
    same = type(w)(*(mx.repeat(p, 1000, axis=0) for p in w.parts), *FORMATS[1])
    x = random((1, 64), mx.float16, 2)
    for order in (0, 1, 2):
        with settings(order=order):
            assert greedy(x, same).tolist() == [0]


def test_a_logit_that_is_not_a_number_is_told() -> None:
    w = weight((1000, 64), FORMATS[1], mx.float16)
    x = random((2, 64), mx.float16, 2)
    expected = mx.argmax(qmv(x, w), axis=-1).tolist()
    for bad in (float("nan"), float("inf")):  # infinity: the logits are both infinities, or what is between them
        half = mx.concatenate([x[:1], mx.full((1, 64), bad, mx.float16)])
        assert np.isnan(wide(qmv(half, w))[1]).any()
        assert greedy(half, w).tolist() == [expected[0], NOT_A_NUMBER]
    for place in (0, 500, 999):
        scales = mx.where(mx.arange(1000)[:, None] == place, mx.nan, w.scales).astype(mx.float16)
        assert greedy(x, type(w)(w.packed, scales, w.biases, *FORMATS[1])).tolist() == [NOT_A_NUMBER] * 2


def test_bad_arguments_are_named() -> None:
    w, x = weight((8, 128), FORMATS[1], mx.float16), random((1, 128), mx.float16, 1)
    other, norm = weight((8, 128), FORMATS[0], mx.float16), mx.ones((128,), mx.float16)
    positions = mx.zeros((1,), mx.int32)
    for call, message in (
        (lambda: project(Normed(x, norm[:64], EPS), [w]), r"norm's weight has shape \(64,\)"),
        (lambda: project(Normed(x, norm.astype(mx.bfloat16), EPS), [w]), "norm's weight is mlx.core.bfloat16"),
        (lambda: project(Normed(x, norm, EPS), [w, other]), "quantized alike"),
        (lambda: project(Normed(x, norm, EPS), [w] * 4), "4 matrices"),
        (lambda: project(Normed(mx.concatenate([x] * 5), norm, EPS), [w]), "5 rows"),
        (lambda: greedy(x.astype(mx.int32), w), "x is mlx.core.int32"),
        (lambda: greedy(x[:, :64], w), r"x has shape \(1, 64\)"),
        (lambda: qmv(x, w, residual=mx.zeros((1, 7), mx.float16)), r"residual has shape \(1, 7\)"),
        (lambda: heads(x, (2, 1, 64), positions, None, None), "heads are"),
        (lambda: heads(x, (1, 1, 64), positions.astype(mx.int64), None, None), "positions are mlx.core.int64"),
        (lambda: heads(x, (1, 1, 64), positions, HeadTurn(mx.ones((33,))), None), "33 pairs are turned"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
