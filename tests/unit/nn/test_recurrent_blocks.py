"""Recurrent mixers against their recurrences written out row by row in NumPy float64."""

import mlx.core as mx
import numpy as np
import pytest
from mixing import LENGTHS, TIMETABLES, run
from recurrences import CASES, DIM, delta_case

from mlxrun.cache.recurrent import Recurrent
from mlxrun.nn.batch import Pass
from mlxrun.nn.delta import ChannelDeltaBlock


@pytest.mark.parametrize("timetable", TIMETABLES)
@pytest.mark.parametrize("case", CASES)
def test_against_the_recurrence(case, timetable):
    block, oracle, draw = CASES[case]()
    sequences = draw.sequences(DIM)
    for got, x in zip(run(block, Recurrent, sequences, TIMETABLES[timetable]), sequences, strict=True):
        np.testing.assert_allclose(got, oracle(draw.weights, x), atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_half_precision_weights_leave_the_state_in_float32(case):
    block, oracle, draw = CASES[case]()
    halves = {name: mx.array(value, mx.bfloat16) for name, value in draw.weights.items()}
    rounded = {name: np.array(value.astype(mx.float32), np.float64) for name, value in halves.items()}
    params = draw.params()
    params._weights = halves
    memory, x = Recurrent(), draw.values(LENGTHS[0], DIM)
    x = np.array(mx.array(x, mx.bfloat16).astype(mx.float32), np.float64)
    block = type(block)(block.spec, DIM, params)
    y = block(mx.array(x, mx.bfloat16), Pass([(len(x), 0, 4096)]), [memory])
    assert y.dtype == mx.bfloat16
    assert [a.dtype for a in memory.arrays()] == [mx.bfloat16, mx.float32][: len(memory.arrays())]
    want = oracle(rounded, x)
    # measured: 0.5% to 1% of the largest output, from activations rounded to 8 bits; 2.1% by channel, whose decays come
    # through two matrices
    limit = 0.04 if isinstance(block, ChannelDeltaBlock) else 0.02
    assert np.abs(np.array(y.astype(mx.float32)) - want).max() < limit * np.abs(want).max()


def test_a_snapshot_brings_the_sequence_back():
    block, _, draw = delta_case()
    x = mx.array(draw.values(12, DIM), mx.float32)
    memory = Recurrent()

    def step(start, count):
        return np.array(block(x[start : start + count], Pass([(count, start, 4096)]), [memory]))

    step(0, 5)
    saved = memory.snapshot()
    first = step(5, 7)
    memory.restore(saved)
    np.testing.assert_array_equal(step(5, 7), first)
