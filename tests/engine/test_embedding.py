"""Vectors beside answers: batches, pooling, what cancels and what breaks; and nobody else notices."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.core import ContextError, Pooling, Request, RequestError, Sampling
from mlxrun.engine.embedding import ROWS, EmbeddingJob, check_inputs
from mlxrun.engine.engine import Engine

from .fake import FakeMemory, FakeModel, continuation


class Sums(FakeModel):
    """A row is (sum of all tokens so far, 100)."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks_at, self.gate = -1, threading.Event()
        self.gate.set()

    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        self.gate.wait(30)
        if self.breaks_at in np.array(ids):
            raise ValueError("a token that breaks")
        sums = super().__call__(ids, sequences).astype(mx.float32)
        return mx.concatenate([sums, mx.full(sums.shape, 100.0)], axis=1)

    def logits(self, hidden: mx.array) -> mx.array:
        return super().logits(hidden[:, :1].astype(mx.int32))


@pytest.fixture
def model() -> Sums:
    return Sums()


@pytest.fixture
def engine(model: Sums) -> Any:
    found = Engine.start(lambda: model)
    yield found
    found.close()


def job(*inputs: tuple[int, ...], pooling: Pooling = Pooling.LAST, both_ways: bool = False) -> EmbeddingJob:
    return EmbeddingJob(inputs, pooling, both_ways)


def unit(*numbers: float) -> Any:
    return np.array(numbers) / np.linalg.norm(numbers)


@pytest.mark.parametrize(
    ("pooling", "number"), [(Pooling.FIRST, 7), (Pooling.LAST, 18), (Pooling.MEAN, 12), (Pooling.MAX, 18)]
)
@pytest.mark.parametrize("both_ways", [False, True])
def test_rows_become_one_vector_of_length_one(
    pooling: Pooling, number: int, both_ways: bool, model: Sums, engine: Engine
) -> None:
    asked = job((7, 4, 7), (5,), pooling=pooling, both_ways=both_ways)
    engine.embed(asked)
    first, second = asked.done.result(30)
    np.testing.assert_allclose(first, unit(number, 100), rtol=1e-6)
    np.testing.assert_allclose(second, unit(5, 100), rtol=1e-6)
    assert first.dtype == np.float32
    assert model.shapes[-1] == [3, 1]  # one pass


def test_a_long_text_is_read_in_parts_where_rows_see_only_earlier_ones(model: Sums, engine: Engine) -> None:
    ids = (1,) * (2 * ROWS + 3)
    parts, whole = job(ids, (2,), pooling=Pooling.MEAN), job(ids, (2,), pooling=Pooling.MEAN, both_ways=True)
    engine.embed(parts)
    engine.embed(whole)
    np.testing.assert_allclose(parts.done.result(30), whole.done.result(30), rtol=1e-6)
    assert model.passes == [ROWS, ROWS, 3, 1, len(ids), 1]


def test_answers_go_on_beside_it(model: Sums, engine: Engine) -> None:
    model.gate.clear()
    asked = job(*([(1, 2)] * 40), *([(3,) * ROWS] * 20))
    engine.embed(asked)
    handle = engine.submit(Request((1, 2, 3), 20, Sampling(temperature=0)))
    model.gate.set()
    said = [token for event in handle for token in event.tokens]
    assert said == continuation([1, 2, 3], 20)
    assert len(asked.done.result(30)) == 60


def test_who_cancels_ends_it_alone(model: Sums, engine: Engine) -> None:
    model.gate.clear()
    gone, stays = job(*([(3,) * ROWS] * 50)), job((5,))
    engine.embed(gone)
    engine.embed(stays)
    assert gone.done.cancel()
    model.gate.set()
    assert len(stays.done.result(30)) == 1
    with pytest.raises(CancelledError):
        gone.done.result(0)
    assert len(model.passes) < 10


def test_what_breaks_ends_its_job_alone(model: Sums, engine: Engine) -> None:
    model.breaks_at = 66
    broken, well = job((5,), (66,)), job((5,))
    engine.embed(broken)
    engine.embed(well)
    with pytest.raises(ValueError, match="a token that breaks"):
        broken.done.result(30)
    assert len(well.done.result(30)) == 1


def test_a_closed_engine_says_so(model: Sums) -> None:
    engine = Engine.start(lambda: model)
    model.gate.clear()
    asked = [job((1,)) for _ in range(3)]
    for one in asked:
        engine.embed(one)
    closing = threading.Thread(target=engine.close)
    closing.start()
    model.gate.set()
    closing.join(30)
    late = job((1,))
    engine.embed(late)
    with pytest.raises(RequestError, match="closed"):
        late.done.result(30)
    assert all(one.done.done() for one in asked)


@pytest.mark.parametrize(
    ("inputs", "kind", "said"),
    [
        (((),), RequestError, "input[0] holds no token."),
        (((1,), (1,) * 9), ContextError, "input[1] has 9 tokens; this model reads at most 8 at once."),
        (((5, 97),), RequestError, "input[0] holds a token id outside 0 to 96."),
    ],
)
def test_what_cannot_be_read_is_named(inputs: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as caught:
        check_inputs(inputs, 97, 8)
    assert str(caught.value) == said
