"""Recurrent mixers as steps of the native stack, against their recurrences in NumPy float64.

A row's bits are the same whatever rows and sequences go together.
"""

from dataclasses import replace
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from mixing import TIMETABLES, run
from mlxrun.cpu_kernels import available, native
from recurrences import CASES, DIM, WIDE, delta_case

from mlxrun.cache.recurrent import Recurrent
from mlxrun.nn.batch import Pass
from mlxrun.nn.layer import LayerBlock
from mlxrun.nn.params import Forms, Params
from mlxrun.nn.stack import LayerPart, LayerStack
from mlxrun.ops.device import this_device
from mlxrun.ops.native import pack
from mlxrun.spec import Decoder, Layer

pytestmark = pytest.mark.skipif(not available, reason="the native CPU kernels are not here")
ISAS = native.isas() if available else []
ALL = {**CASES, **{f"{name}, wide": case for name, case in WIDE.items()}}


def stacked(case):
    """x -> x + mixer(x) as the native kernels compute it, in float32."""
    block, oracle, draw = case()
    device = replace(this_device("exact"), native=True)
    weights = {f"mixer.{name}": mx.array(value.astype(np.float32)) for name, value in draw.weights.items()}
    layer = Layer(block.spec, None)
    part = LayerPart(0, layer)
    assert part.served
    spec = Decoder("made up", DIM, 100, (layer,), None, tied=True, context=4096)
    stack = LayerStack(
        spec, [LayerBlock(layer, DIM, None, Params(weights, device, forms=Forms(matrix=pack)))], [part], device
    )

    def mix(x: mx.array, p: Pass, memories: list[Recurrent]) -> mx.array:
        p.pages = SimpleNamespace(batches=[])
        return stack(x, p, [SimpleNamespace(layers=[memory]) for memory in memories], None)

    return mix, oracle, draw


@pytest.fixture(params=ISAS)
def isa(request):
    before = native.isa()
    assert native.choose_isa(request.param)
    yield request.param
    native.choose_isa(before)


@pytest.mark.parametrize("case", ALL)
def test_against_the_recurrence_and_the_same_bits_by_every_timetable(case, isa):
    mix, oracle, draw = stacked(ALL[case])
    sequences = draw.sequences(DIM)
    found = [run(mix, Recurrent, sequences, timetable) for timetable in TIMETABLES.values()]
    for rows, x in zip(found[0], sequences, strict=True):
        np.testing.assert_allclose(rows, x + oracle(draw.weights, x), rtol=2e-6, atol=1e-5)
    for other in found[1:]:
        for rows, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(rows.view(np.uint32), same.view(np.uint32))


@pytest.mark.parametrize("case", ["delta", "delta by channel", "gated linear", "mamba1", "mamba2", "short convolution"])
def test_what_is_kept_of_a_sequence_stays_as_it_was(case):
    mix, _, draw = stacked(CASES[case])
    x = mx.array(draw.values(12, DIM), mx.float32)
    memory, other = Recurrent(), Recurrent()

    def step(memory: Recurrent, start: int, count: int) -> np.ndarray:
        return np.array(mix(x[start : start + count], Pass([(count, start, 4096)]), [memory]))

    step(memory, 0, 5)
    saved = memory.snapshot()
    kept = [np.array(part) for part in saved.arrays]
    other.restore(saved)
    first = step(memory, 5, 7)
    for part, before in zip(saved.arrays, kept, strict=True):
        np.testing.assert_array_equal(np.array(part), before)
    np.testing.assert_array_equal(step(other, 5, 7), first)
    memory.restore(saved)
    np.testing.assert_array_equal(step(memory, 5, 7), first)


def test_states_that_nobody_holds_are_the_memory_of_the_next():
    mix, _, draw = stacked(lambda: delta_case(k_dim=64, v_dim=64))
    x = mx.array(draw.values(1, DIM), mx.float32)
    memory, places, held = Recurrent(), [], []
    for position in range(12):
        mx.eval(mix(x, Pass([(1, position, 4096)]), [memory]))
        state = memory.arrays()[1]
        places.append(np.array(state, copy=False).__array_interface__["data"][0])
        held += [state] if position >= 6 else []
    assert len(set(places[:6])) <= 3
    assert len(set(places[6:])) == 6  # whoever holds one keeps its own


def test_a_convolution_of_one_tap_is_not_understood():
    block, _, _ = delta_case(conv=2)
    part = LayerPart(0, Layer(replace(block.spec, conv=1), None))
    assert not part.served
