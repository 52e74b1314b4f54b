"""Drafts of answers that must be something: right ones, wrong ones and such as may not come; the answer is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import pytest

from mlxrun.core import Constraint, Event, Finish, Request, Sampling, Shape
from mlxrun.engine.aids import Aids
from mlxrun.engine.constraint import ConstraintError, Guide
from mlxrun.engine.engine import Engine
from mlxrun.engine.request import Row
from tests.engine.test_constraint import CASES, END, LONGER, SPECIAL, VOCABULARY, ids
from tests.engine.test_sampling_in_turn import WavyModel

from .scripted import Scripted, said, tokens


class Switched(Scripted):
    """Drafts of what is going to be said, some spoilt; cut, as the real one cuts, to what may come."""

    def __init__(self) -> None:
        super().__init__(self.drafts)
        self.answers: dict[int, list[int]] = {}
        self.random = Random(4)

    def drafts(self, row: Row) -> Sequence[int]:
        if row.guide is not None and row.guide.free:
            return ()
        answer = self.answers.get(row.seed, [])
        coming = [*answer[len(row.tokens) - row.prompt :], 3, 4][: self.random.randrange(8)]
        return [self.random.randrange(97) if self.random.random() < 0.2 else token for token in coming]


@pytest.fixture
def both() -> Iterator[tuple[Engine, Engine, Switched]]:
    switched = Switched()
    plain = Engine.start(WavyModel, aids=Aids(lambda: VOCABULARY))
    drafted = Engine.start(WavyModel, aids=Aids(lambda: VOCABULARY, lambda model, context: switched))
    yield plain, drafted, switched
    plain.close()
    drafted.close()


def requests(count: int = 90) -> list[Request]:
    wishes = [None, *(constraint for constraint, _ in CASES.values()), LONGER]
    how = [{}, {}, {"presence_penalty": 0.5}, {"temperature": 0.0}, {"logprobs": 1}, {"repetition_penalty": 1.2}]
    return [
        Request(
            ids("hello"),
            count,
            Sampling(**{"temperature": 1.0, "seed": seed, **own}),
            frozenset({END}),
            constraint=wish,
        )
        for seed, (wish, own) in enumerate(zip(wishes, how, strict=True))
    ]


def ends(events: list[Event]) -> tuple[list[int], object, str | None]:
    return tokens(events), events[-1].finish, events[-1].reason


def test_the_answer_is_the_same(both: tuple[Engine, Engine, Switched]) -> None:
    plain, drafted, switched = both
    asked = requests()
    wanted = said(plain, asked)
    for request, events in zip(asked, wanted, strict=True):
        switched.answers[request.sampling.seed or 0] = tokens(events)
    for one, other in zip(said(drafted, asked), wanted, strict=True):
        assert ends(one) == ends(other)
    assert switched.rode > 10
    assert any(events[-1].finish is Finish.STOP for events in wanted)


def test_nothing_is_said_behind_the_end_of_what_it_must_be(both: tuple[Engine, Engine, Switched]) -> None:
    _, drafted, switched = both
    switched.answers[5] = list(ids("yes"))
    switched.random = Random(1)
    for _ in range(4):
        constraint = Constraint(Shape.CHOICE, '["yes", "yesterday"]')
        request = Request(ids("hello"), 50, Sampling(1.0, seed=5), frozenset({END}), constraint=constraint)
        (events,) = said(drafted, [request])
        assert bytes(token + 32 for token in tokens(events)) in (b"yes", b"yesterday")
        assert events[-1].finish is Finish.STOP


def test_thoughts_have_none_and_what_follows_has(both: tuple[Engine, Engine, Switched]) -> None:
    plain, drafted, switched = both
    constraint = Constraint(Shape.REGEX, "([a-z][0-9]){9}", after=(SPECIAL,))
    asked = [
        Request(ids("hello"), 120, Sampling(1.0, seed=seed, bias=((SPECIAL, 2.0),)), constraint=constraint)
        for seed in range(4)
    ]
    wanted = said(plain, asked)
    for request, events in zip(asked, wanted, strict=True):
        switched.answers[request.sampling.seed or 0] = tokens(events)
    assert [ends(events) for events in said(drafted, asked)] == [ends(events) for events in wanted]
    assert switched.rode > 2


def test_drafts_that_cannot_be_checked_in_time_do_not_ride(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(self: Guide, draft: Sequence[int]) -> int:
        raise ConstraintError("it took too long")

    monkeypatch.setattr(Guide, "fits", late)
    switched = Switched()
    switched.says = lambda row: [1, 2]
    engine = Engine.start(WavyModel, aids=Aids(lambda: VOCABULARY, lambda model, context: switched))
    try:
        (events,) = said(engine, requests(20)[1:2])
        assert events[-1].finish in (Finish.LENGTH, Finish.STOP)
        assert switched.rode == 0
    finally:
        engine.close()
