"""What adapters add to products of a stack, against float64; and that none of another size or stack is taken."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops.native import available, native

pytestmark = pytest.mark.skipif(not available, reason="the native CPU kernels are not built here")

DIM, OUT, RANK, ROWS, EXACT = 40, 24, 5, 7, 0
random = np.random.default_rng(3)
W, A, B, GAIN, BIAS, X = (
    random.standard_normal(shape) for shape in ((OUT, DIM), (RANK, DIM), (OUT, RANK), (OUT,), (OUT,), (ROWS, DIM))
)


def given(values: Any) -> mx.array:
    return mx.array(values, mx.float32)


def packed(values: Any) -> Any:
    return native.pack_plain(given(values))


def made(*, bias: bool = False, norm: bool = False) -> Any:
    stack = native.Stack(DIM, out="y")
    added = given(BIAS) if bias else None
    own = native.RowNorm(None, None, 1e-6) if norm else None
    stack.project("x", [packed(W)], [added], ["y"], norm=own)
    stack.adapt("x", ["y"], [added], own)
    return stack


def low_rank(scale: float = 0.5, *, gain: bool = False) -> Any:
    return native.LowRank(packed(A), packed(B), scale, given(GAIN) if gain else None)


def run(stack: Any, adapted: list[tuple[int, int, Any]]) -> Any:
    return np.array(stack(given(X), None, [], [], [], [], EXACT, [], [], adapted)[0])


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("gain", [False, True])
def test_rows_of_a_span_are_changed_and_no_others(gain: bool, bias: bool, norm: bool) -> None:
    stack = made(bias=bias, norm=norm)
    by = stack.adapter([low_rank(gain=gain)])
    x = X / np.sqrt((X * X).mean(axis=1, keepdims=True) + 1e-6) if norm else X
    wanted = x @ W.T + (BIAS if bias else 0)
    inner = x @ W.T + 0.5 * x @ A.T @ B.T
    changed = inner * (GAIN if gain else 1) + (BIAS if bias else 0)
    for start, end in ((1, 3), (4, 7)):
        wanted[start:end] = changed[start:end]
    np.testing.assert_allclose(run(stack, [(1, 2, by), (4, 3, by)]), wanted, rtol=1e-4, atol=1e-4)
    nobody = stack.adapter([None])
    np.testing.assert_array_equal(run(stack, [(0, ROWS, nobody)]), run(stack, []))


def test_a_row_has_its_own_bits_beside_others() -> None:
    stack = made()
    one, two = stack.adapter([low_rank()]), stack.adapter([low_rank(-2.0, gain=True)])
    together = run(stack, [(0, 3, one), (3, 1, two), (5, 2, one)])
    np.testing.assert_array_equal(together[:3], run(stack, [(0, ROWS, one)])[:3])
    np.testing.assert_array_equal(together[3], run(stack, [(3, 1, two)])[3])


@pytest.mark.parametrize(
    ("a", "b", "gain"),
    [
        ((RANK, DIM + 1), (OUT, RANK), None),
        ((RANK, DIM), (OUT - 1, RANK), None),
        ((RANK, DIM), (OUT, RANK + 1), None),
        ((RANK, DIM), (OUT, RANK), (OUT + 1,)),
        ((2, RANK, DIM), (OUT, RANK), None),
    ],
)
def test_an_adapter_of_another_size_is_refused(a: Any, b: Any, gain: Any) -> None:
    part = native.LowRank(packed(np.ones(a)), packed(np.ones(b)), 1.0, None if gain is None else given(np.ones(gain)))
    with pytest.raises(ValueError, match=r"a must be \(rank, 40\)|gain must have shape|single matrices"):
        made().adapter([part])


def test_slots_spans_and_stacks_must_be_right() -> None:
    stack = made()
    with pytest.raises(ValueError, match="one entry for each slot, 1"):
        stack.adapter([])
    by = stack.adapter([low_rank()])
    for spans in ([(0, 8, by)], [(-1, 2, by)], [(3, 2, by), (4, 1, by)], [(0, 0, by)], [(7, 1, by)]):
        with pytest.raises(ValueError, match="rows of x, in order"):
            run(stack, spans)
    with pytest.raises(ValueError, match="another stack"):
        run(made(), [(0, 1, by)])


def test_what_adapters_change_must_be_there() -> None:
    stack = native.Stack(DIM)
    with pytest.raises(ValueError, match="no step before this one writes y"):
        stack.adapt("x", ["y"], [None])
    with pytest.raises(ValueError, match="cannot lie where its rows did"):
        stack.adapt("x", ["x"], [None])
    with pytest.raises(ValueError, match="as many"):
        stack.adapt("x", [], [])
