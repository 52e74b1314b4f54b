"""When drafts ride: on a model whose passes take exactly as long as a test says."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxrun.core import Finish, Sampling
from mlxrun.engine.budget import Load
from mlxrun.engine.draft.speculation import Speculation, SpeculationCounts
from mlxrun.engine.draft.suffix import SuffixProposer
from mlxrun.engine.handle import Handle
from mlxrun.engine.runner import Runner
from mlxrun.engine.scheduler import Scheduler
from tests.engine.fake import FakeMemory, FakeModel, continuation
from tests.engine.simulated import Simulated

GREEDY = Sampling(temperature=0)


class Placed(FakeModel):
    """What comes next follows from its place in the text alone."""

    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        super().__call__(ids, sequences)
        places = [place for memory, count in sequences for place in range(memory.length - count, memory.length)]
        return mx.array(places, mx.uint32)[:, None]

    def logits(self, hidden: mx.array) -> mx.array:
        return 30.0 * (mx.arange(self.vocab) == self.token(hidden))

    def token(self, place: mx.array) -> mx.array:
        words = (place * 2654435761) ^ (place * 40503 >> 7)
        return (words >> 13) % self.vocab


class Lapsing(Placed):
    """Its text goes round, but for every ninth token."""

    def token(self, place: mx.array) -> mx.array:
        return mx.where(place % 9 == 8, super().token(place), place % 9)


class Told(Simulated):
    """A pass takes a second, and `each` more for each row beyond the first."""

    def __init__(self, model: type[FakeModel], each: float) -> None:
        super().__init__(lambda load: 1.0 + each * (load.speaking + load.drafts + load.prompt - 1))
        self.model, self.speculation = model(), Speculation([SuffixProposer()])
        self.runner = Runner(self.model)
        self.scheduler = Scheduler(
            self.model, self.model.context, 1 << 20, clock=lambda: self.now, speculation=self.speculation
        )

    @property
    def counts(self) -> SpeculationCounts:
        return self.speculation.counts

    def say(self, count: int, rows: int = 1, sampling: Sampling = GREEDY) -> list[Handle]:
        handles = [self.submit((index + 1, 2), max_tokens=count, sampling=sampling) for index in range(rows)]
        self.finish()
        return handles


def test_a_text_that_goes_round_is_said_in_few_passes() -> None:
    told = Told(FakeModel, 0.05)
    (handle,) = told.say(1000)
    assert told.tokens(handle) == continuation([1, 2], 1000)
    assert told.counts.passes > 10
    assert told.counts.accepted > 0.97 * told.counts.drafted > 700
    assert told.now < 1000 / 4


@pytest.mark.parametrize("model", [FakeModel, Placed, Lapsing])
@pytest.mark.parametrize("rows", [1, 8])
def test_none_ride_where_a_row_takes_as_long_as_a_pass(model: type[FakeModel], rows: int) -> None:
    told = Told(model, 1.0)
    told.say(1500, rows)
    assert told.counts.drafted < 60
    assert told.now < 1500 * rows / 0.98


def test_none_ride_where_nothing_repeats() -> None:
    told = Told(Placed, 0.05)
    told.say(3000)
    assert told.counts.drafted < 200
    assert told.now < 3000 / 0.98


def test_they_ride_beside_others() -> None:
    told = Told(FakeModel, 0.05)
    for index, handle in enumerate(told.say(400, 4)):
        assert told.tokens(handle) == continuation([index + 1, 2], 400)
    assert told.counts.accepted > 800
    assert told.now < 400 * 1.15 / 1.5


@pytest.mark.parametrize("rows", [1, 4])
def test_what_rides_pays(rows: int) -> None:
    """Drafts of which every ninth is wrong, where each costs a third of a pass: never slower than without."""
    told = Told(Lapsing, 0.3)
    told.say(1500, rows)
    assert told.now < 1500 * (1.0 + 0.3 * (rows - 1)) / 0.98


def test_those_who_speak_on_when_drafts_stop_paying() -> None:
    """A text that goes round for a while and then says new things: it rests, or none ride."""

    class Turning(Placed):
        def token(self, place: mx.array) -> mx.array:
            return mx.where(place < 500, place % 7, super().token(place))

    told = Told(Turning, 0.2)
    handle = told.submit((1, 2), max_tokens=3000, sampling=GREEDY)
    told.until(lambda: len(told.tokens(handle)) >= 500)
    drafted, began = told.counts.drafted, told.now
    assert drafted > 200
    told.finish()
    assert told.counts.drafted - drafted < 200
    assert told.now - began < 2500 / 0.98


def test_a_memory_that_cannot_go_back_has_none_and_is_counted() -> None:
    class Forward(FakeMemory):
        def reusable(self, length: int) -> int:
            return length if length == self.length else 0

        def rewind(self, length: int) -> bool:
            return length == self.length

    class Model(FakeModel):
        def new_sequence(self, context: int | None = None) -> FakeMemory:
            return Forward(context or self.context)

    told = Told(Model, 0.05)
    (handle,) = told.say(200)
    assert told.tokens(handle) == continuation([1, 2], 200)
    assert told.counts == SpeculationCounts(fixed=1)


def test_mirostat_has_none() -> None:
    told = Told(FakeModel, 0.05)
    told.say(200, sampling=Sampling(0.01, seed=1, mirostat_tau=3.0))
    assert told.counts.drafted == 0


def test_prompts_and_drafts_do_not_share_a_pass_and_both_get_on() -> None:
    told = Told(FakeModel, 0.05)
    one = told.submit((1, 2), max_tokens=600, sampling=GREEDY)
    told.until(lambda: told.counts.passes > 3)
    other = told.submit(tuple(range(90)), max_tokens=5, sampling=GREEDY)
    told.finish()
    assert told.tokens(one) == continuation([1, 2], 600)
    assert told.last(other).finish is Finish.LENGTH
    assert all(not (plan.load.drafts and plan.load.prompt) for plan in told.plans if plan.load is not None)


def test_the_time_of_a_pass_with_drafts_is_no_plain_one() -> None:
    """Or the budget of prompts would be made of it."""
    told = Told(FakeModel, 0.05)
    told.say(600)
    assert told.counts.passes > 10
    assert told.scheduler._budget.plain(1) == pytest.approx(1.0)
    assert Load(1, drafts=3) != Load(1)
