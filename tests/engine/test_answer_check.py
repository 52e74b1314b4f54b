"""Answers that are computed once more, alone, while nobody asks: what differs is counted and told."""

from __future__ import annotations

import time

import mlx.core as mx
import pytest

from mlxrun.core import Finish, Request, Sampling
from mlxrun.engine.aids import Aids
from mlxrun.engine.engine import Engine

from .fake import FakeMemory, FakeModel

SECONDS = 60.0


class Leaking(FakeModel):
    """A row's token depends on how many rows there are beside it."""

    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        return super().__call__(ids, sequences) + (len(sequences) > 1)


class Breaking(FakeModel):
    """Computes for as many passes as it is told to, and then breaks."""

    left = 10**6

    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of passes")
        return super().__call__(ids, sequences)


def counted(engine: Engine, *names: str, wanted: int) -> list[float]:
    """So many answers were looked at, whatever came of it."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        totals = engine.statistics().totals
        if totals.get("answers_checked", 0) + totals.get("answers_unchecked", 0) >= wanted:
            return [totals.get(name, 0) for name in names]
        time.sleep(0.01)
    raise AssertionError(engine.statistics().totals)


def ask_together(engine: Engine, count: int) -> list[Finish | None]:
    requests = [Request((i + 1, 5, 7), max_tokens=9, sampling=Sampling(temperature=i % 3 / 2.0)) for i in range(count)]
    return [list(handle)[-1].finish for handle in [engine.submit(request) for request in requests]]


@pytest.mark.parametrize("model", [FakeModel, Leaking])
def test_each_answer_is_compared_with_what_it_is_alone(model: type[FakeModel]) -> None:
    engine = Engine.start(model, aids=Aids(check_answers=True))
    try:
        assert ask_together(engine, 8) == [Finish.LENGTH] * 8
        checked, differed = counted(engine, "answers_checked", "answers_differed", wanted=8)
        assert checked == 8
        assert (differed > 0) is (model is Leaking)
        assert any("came out otherwise" in note for note in engine.notes) is (model is Leaking)
        assert ask_together(engine, 1) == [Finish.LENGTH]  # who asks meanwhile is answered
    finally:
        engine.close()


def test_several_answers_to_one_prompt_are_each_compared() -> None:
    engine = Engine.start(FakeModel, aids=Aids(check_answers=True))
    try:
        handles = engine.submit_choices(Request((1, 2), max_tokens=4, sampling=Sampling(seed=3), n=3))
        assert all(list(handle)[-1].finish is Finish.LENGTH for handle in handles)
        assert counted(engine, "answers_checked", "answers_differed", wanted=3) == [3, 0]
    finally:
        engine.close()


def test_a_check_that_breaks_is_counted_and_ends_nothing_else() -> None:
    model = Breaking()
    engine = Engine.start(lambda: model, aids=Aids(check_answers=True))
    try:
        model.left = 4
        handle = engine.submit(Request((1, 2), max_tokens=4, sampling=Sampling(temperature=0)))
        assert list(handle)[-1].finish is Finish.LENGTH
        assert counted(engine, "answers_unchecked", wanted=1) == [1]
        model.left = 10**6
        assert ask_together(engine, 1) == [Finish.LENGTH]
    finally:
        engine.close()


def test_nothing_is_computed_twice_where_nobody_wants_it() -> None:
    engine = Engine.start(FakeModel)
    try:
        ask_together(engine, 2)
        assert not {"answers_checked", "answers_unchecked"} & engine.statistics().totals.keys()
    finally:
        engine.close()
