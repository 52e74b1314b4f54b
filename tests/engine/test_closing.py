"""Thoughts that may not grow longer than asked: their end is forced, in each block anew, also where drafts ride."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from mlxrun.core import Closing, Constraint, Event, Finish, Request, Sampling, Shape
from mlxrun.engine.aids import Aids
from mlxrun.engine.closing import ThoughtBudget
from mlxrun.engine.engine import Engine
from mlxrun.engine.request import Row

from .draft.scripted import Scripted, said, tokens
from .test_constraint import END, VOCABULARY, ids
from .test_sampling_in_turn import WavyModel

OPEN, CLOSE, HALF, REST = 10, 11, 20, 21
SPELLED = {OPEN: b"<", CLOSE: b">", HALF: b"\xc3", REST: b"\xa9"}
BLOCK = Closing(5, (OPEN,), (CLOSE,), (CLOSE,), True, lambda token: SPELLED.get(token, b"a"))


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine.start(WavyModel, aids=Aids(lambda: VOCABULARY))
    yield engine
    engine.close()


def request(closing: Closing | None, seed: int = 1, count: int = 40, **how: object) -> Request:
    wanted = {"temperature": 1.0, "seed": seed, "bias": ((CLOSE, -100.0), (OPEN, 3.0)), **how}
    return Request(ids("hello"), count, Sampling(**wanted), frozenset({END}), closing=closing)  # type: ignore[arg-type] # by name


def blocks(answer: Sequence[int], opened: bool = True) -> list[int]:
    """The tokens in each block that was closed."""
    found, count = [], 0 if opened else None
    for token in answer:
        if count is None:
            count = 0 if token == OPEN else None
        elif token == CLOSE:
            found.append(count)
            count = None
        else:
            count += 1
    return found


def test_the_end_is_forced_in_each_block_anew(engine: Engine) -> None:
    (free,) = said(engine, [request(None)])
    assert CLOSE not in tokens(free)
    (held,) = said(engine, [request(BLOCK)])
    assert tokens(held)[:6] == [*tokens(free)[:5], CLOSE]  # until then nothing is changed
    assert blocks(tokens(held)) == [5] * len(blocks(tokens(held)))
    assert len(blocks(tokens(held))) > 1


def test_no_block_is_closed_that_was_never_opened(engine: Engine) -> None:
    (held,) = said(engine, [request(replace(BLOCK, opened=False), bias=((OPEN, -100.0), (CLOSE, -100.0)))])
    assert CLOSE not in tokens(held)


def test_a_block_without_a_budget_is_closed_at_once(engine: Engine) -> None:
    (held,) = said(engine, [request(replace(BLOCK, budget=0))])
    assert tokens(held)[0] == CLOSE


@pytest.mark.parametrize("greedy", [False, True])
def test_who_is_beside_is_not_touched(engine: Engine, greedy: bool) -> None:
    how = {"temperature": 0.0, "bias": ()} if greedy else {}
    (alone,) = said(engine, [request(None, 2, **how)])
    beside, _ = said(engine, [request(None, 2, **how), request(BLOCK, 3)])
    assert tokens(beside) == tokens(alone)


def test_what_must_be_begins_after_the_forced_end(engine: Engine) -> None:
    shape = Constraint(Shape.REGEX, "a{2,5}b", after=(CLOSE,))
    (events,) = said(engine, [replace(request(BLOCK), constraint=shape)])
    assert tokens(events)[5] == CLOSE
    text = "".join(chr(32 + token) for token in tokens(events)[6:])
    assert (text.strip("a"), events[-1].finish) == ("b", Finish.STOP)


class Spoilt(Scripted):
    """Drafts of what is going to be said, some spoilt."""

    def __init__(self) -> None:
        super().__init__(self.drafts)
        self.answers: dict[int, list[int]] = {}
        self.random = Random(4)

    def drafts(self, row: Row) -> Sequence[int]:
        coming = self.answers.get(row.seed, [])[len(row.tokens) - row.prompt :][: self.random.randrange(8)]
        return [self.random.randrange(97) if self.random.random() < 0.1 else token for token in coming]


def test_drafts_change_nothing(engine: Engine) -> None:
    spoilt = Spoilt()
    drafted = Engine.start(WavyModel, aids=Aids(lambda: VOCABULARY, lambda model, context: spoilt))
    asked = [request(replace(BLOCK, budget=budget), seed) for seed, budget in enumerate((0, 3, 5, 9, 20))]
    try:
        wanted = said(engine, asked)
        for one, events in zip(asked, wanted, strict=True):
            spoilt.answers[one.sampling.seed or 0] = tokens(events)
        assert [tokens(events) for events in said(drafted, asked)] == [tokens(events) for events in wanted]
        assert spoilt.rode > 5
    finally:
        drafted.close()


def test_a_budget_that_nothing_can_force_is_refused(engine: Engine) -> None:
    def refused(closing: Closing) -> str | None:
        (only,) = engine.submit(request(closing))
        assert isinstance(only, Event)
        return only.reason

    assert "no tokens that could end its thoughts" in (refused(replace(BLOCK, forced=())) or "")
    assert "a whole number from 0 on" in (refused(replace(BLOCK, budget=-1)) or "")


def forced_after(closing: Closing, read: Sequence[int]) -> int | None:
    budget = ThoughtBudget(closing)
    for token in read:
        budget.read(token)
    bits = budget.bits(None)
    return None if bits is None else int("".join(f"{word:032b}" for word in bits[::-1]), 2).bit_length() - 1


def test_a_character_is_never_cut() -> None:
    two = replace(BLOCK, budget=2)
    assert forced_after(two, [1]) is None
    assert forced_after(two, [1, 2]) == CLOSE
    assert forced_after(two, [1, HALF]) is None
    assert forced_after(two, [1, HALF, REST]) == CLOSE


def test_an_end_of_several_tokens_comes_whole() -> None:
    long = replace(BLOCK, budget=1, forced=(CLOSE, 4, 5))
    assert [forced_after(long, [1, *(CLOSE, 4, 5)[:count]]) for count in range(4)] == [CLOSE, 4, 5, None]


def test_markers_that_are_several_tokens_are_known_by_their_letters() -> None:
    spelled = {1: b"x<t", 2: b"h>y", 3: b"</t", 4: b"h>", 50: b"<t", 51: b"h>", 52: b"</t", 53: b"h>"}
    text = Closing(2, (50, 51), (52, 53), (52, 53), False, lambda token: spelled.get(token, b"a"))
    assert forced_after(text, [9, 9, 9]) is None
    assert forced_after(text, [1, 2, 9, 9]) == 52
    assert forced_after(text, [1, 2, 3, 4, 9, 9]) is None  # it ended by itself
