"""A draft model: what it proposes follows from what was said and nothing else, and it rides only where it pays."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.core import Finish, Request, Sampling
from mlxrun.engine.draft.base import Drafting, Drafts
from mlxrun.engine.draft.model import PIECE, TOGETHER, DraftModel
from mlxrun.engine.draft.speculation import Speculation
from mlxrun.engine.runner import Runner
from mlxrun.engine.sampler import Draw
from mlxrun.engine.scheduler import Scheduler
from tests.engine.fake import FakeMemory, FakeModel, continuation
from tests.engine.simulated import Simulated
from tests.engine.test_sampling_in_turn import KINDS, WavyModel

from .scripted import engine_of, said, tokens

GREEDY = Sampling(temperature=0)
VOCAB = FakeModel.vocab


@dataclass
class Said:
    tokens: array[int]
    sampling: Sampling = GREEDY
    stop_ids: frozenset[int] = frozenset()
    drafting: Drafting = field(default_factory=Drafting)

    @property
    def draw(self) -> Draw:
        return self.draws(Drafts())[0]

    def draws(self, drafts: Drafts) -> list[Draw]:
        text = self.tokens + array("i", drafts.tokens)
        known = len(self.tokens)
        return [Draw(self.sampling, 5, known + i, text[: known + i], 1, self.stop_ids) for i in range(len(drafts) + 1)]


def drafter(model: FakeModel | None = None, context: int = 4096) -> DraftModel:
    return DraftModel(model or FakeModel(), context, 1 << 20, clock=lambda: 0.0)


turns = st.lists(
    st.tuples(
        st.integers(0, DraftModel.most + 2),
        st.lists(st.integers(0, VOCAB - 1), max_size=12),
        st.integers(0, DraftModel.most),
    ),
    min_size=1,
    max_size=8,
)


@given(st.lists(st.tuples(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30), turns), min_size=1, max_size=3))
def test_it_goes_on_from_what_was_said_whatever_became_of_its_drafts(rows: list[tuple[list[int], list]]) -> None:
    """The fake's next token is the sum of all it has seen, so a memory with a token too many or too few shows."""
    proposer, asked = drafter(), [Said(array("i", prompt)) for prompt, _ in rows]
    for turn in range(max(len(turns) for _, turns in rows)):
        here = [(row, turns[turn]) for row, (_, turns) in zip(asked, rows, strict=True) if turn < len(turns)]
        most = [count for _, (count, _, _) in here]
        made = proposer.propose([row for row, _ in here], most)
        for (row, (count, other, taken)), drafts in zip(here, made, strict=True):
            if len(row.tokens) <= 400:
                state = row.drafting.proposers.get("draft")
                if state is not None and drafts:
                    assert list(drafts.tokens) == continuation(list(row.tokens), min(count, DraftModel.most))
                assert len(drafts.kinds) == len(drafts.tokens) <= min(count, DraftModel.most)
            row.tokens.extend(drafts.tokens[:taken])
            row.tokens.extend(other)
    for row in asked:
        for _ in range(3):  # what was said last is read by pieces
            (drafts,) = proposer.propose([row], [3])
        assert list(drafts.tokens) == continuation(list(row.tokens), 3)


def test_a_prompt_is_read_by_pieces_before_anything_is_drafted() -> None:
    model = FakeModel()
    proposer, row = drafter(model), Said(array("i", [i % VOCAB for i in range(2 * PIECE + TOGETHER)]))
    assert [len(proposer.propose([row], [2])[0]) for _ in range(2)] == [0, 2]
    assert model.passes == [PIECE, PIECE, TOGETHER, 1]


def test_many_read_together_no_more_than_a_piece() -> None:
    model = FakeModel()
    proposer, rows = drafter(model), [Said(array("i", [index] * 200)) for index in range(4)]
    proposer.propose(rows, [2] * 4)
    assert model.passes[0] <= PIECE
    for _ in range(4):
        made = proposer.propose(rows, [2] * 4)
    assert [list(drafts.tokens) for drafts in made] == [continuation([index] * 200, 2) for index in range(4)]


def test_what_an_ended_request_left_serves_the_next() -> None:
    model = FakeModel()
    proposer, row = drafter(model), Said(array("i", range(60)))
    proposer.propose([row], [2])
    row.tokens.extend(continuation(list(row.tokens), 1))
    proposer.ended(row)
    assert proposer.kept_bytes
    model.passes.clear()
    other = Said(array("i", [*range(60), *row.tokens[60:], 7]))
    assert list(proposer.propose([other], [2])[0].tokens) == continuation(list(other.tokens), 2)
    assert sum(model.passes) <= 4
    proposer.forget()
    assert not proposer.kept_bytes


def test_it_stops_at_stop_ids_and_at_the_end_of_its_context() -> None:
    answer = continuation([1, 2], 8)
    row = Said(array("i", [1, 2]), stop_ids=frozenset({answer[2]}))
    assert list(drafter().propose([row], [8])[0].tokens) == answer[:3]
    assert list(drafter(context=7).propose([Said(array("i", [1, 2]))], [8])[0].tokens) == answer[:5]
    assert not drafter(context=7).propose([Said(array("i", [1] * 7))], [8])[0]


def test_it_may_know_fewer_tokens() -> None:
    row = Said(array("i", [1, 2]), Sampling(0, bias=((VOCAB, 1.0),)))
    assert not drafter().propose([row], [8])[0]


class Breaking(FakeModel):
    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        if len(self.passes) > 6:
            raise RuntimeError("no memory")
        return super().__call__(ids, sequences)


class Told(Simulated):
    """A pass takes a second, each row beyond the first `each`; a pass of the draft model takes `draft`."""

    def __init__(self, model: FakeModel, smaller: FakeModel, each: float = 0.05, draft: float = 0.1) -> None:
        super().__init__(lambda load: 1.0 + each * (load.speaking + load.drafts + load.prompt - 1))
        self.spent = 0.0

        def spend(how: Sequence[int]) -> None:
            self.now += draft * len(how)
            self.free_at = max(self.free_at, self.now)

        class Timed(type(smaller)):
            def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
                spend([1])
                return super().__call__(ids, sequences)

        smaller.__class__ = Timed
        self.model, self.drafter = model, DraftModel(smaller, 4096, 1 << 20, clock=lambda: self.now)
        self.speculation, self.runner = Speculation((), self.drafter), Runner(model)
        self.scheduler = Scheduler(model, 4096, 1 << 20, clock=lambda: self.now, speculation=self.speculation)


class Waves(WavyModel):
    """Follows its own mind now and then."""

    def logits(self, hidden: mx.array) -> mx.array:
        return mx.where(hidden % 5 == 0, mx.roll(super().logits(hidden), 1, axis=-1), super().logits(hidden))


@pytest.mark.parametrize("rows", [1, 4])
def test_one_that_thinks_alike_says_many_tokens_a_pass(rows: int) -> None:
    told = Told(WavyModel(), WavyModel())
    handles = [told.submit((index + 1, 2), max_tokens=300, sampling=Sampling(0.8, seed=index)) for index in range(rows)]
    told.finish()
    with engine_of(WavyModel, None) as (engine, _):
        plain = said(engine, [handle.request for handle in handles])
    assert [told.tokens(handle) for handle in handles] == [tokens(events) for events in plain]
    counts = told.speculation.counts
    assert counts.accepted == counts.drafted > 100 * rows
    assert told.now < 300 * (1 + 0.05 * rows) / 1.8


@pytest.mark.parametrize("smaller", [WavyModel, Waves])
def test_whatever_is_asked_of_the_sampler(smaller: type[FakeModel]) -> None:
    told = Told(WavyModel(), smaller())
    requests = [Request((3, 4, index), 60, sampling) for index, sampling in enumerate(KINDS.values())]
    handles = []
    for request in requests:
        handles.append(told.submit(request.tokens, max_tokens=request.max_tokens, sampling=request.sampling))
        told.finish()
    with engine_of(WavyModel, None) as (engine, _):
        plain = said(engine, requests)
    assert [told.tokens(handle) for handle in handles] == [tokens(events) for events in plain]
    counts = told.speculation.counts
    assert counts.drafted > 50
    assert (counts.accepted == counts.drafted) is (smaller is WavyModel)


def test_one_that_is_always_wrong_is_parked() -> None:
    class Wrong(FakeModel):
        def logits(self, hidden: mx.array) -> mx.array:
            return super().logits(hidden + 1)

    told = Told(FakeModel(), Wrong())
    handle = told.submit((1, 2), max_tokens=3000, sampling=GREEDY)
    told.finish()
    assert told.tokens(handle) == continuation([1, 2], 3000)
    assert told.now < 3000 / 0.98


def test_one_that_is_as_slow_is_parked() -> None:
    told = Told(FakeModel(), FakeModel(), each=0.3, draft=0.9)
    handle = told.submit((1, 2), max_tokens=3000, sampling=GREEDY)
    told.finish()
    assert told.tokens(handle) == continuation([1, 2], 3000)
    assert told.now < 3000 / 0.98


def test_one_that_breaks_is_given_up_with_its_reason() -> None:
    told = Told(FakeModel(), Breaking())
    handle = told.submit((1, 2), max_tokens=200, sampling=GREEDY)
    told.finish()
    assert told.tokens(handle) == continuation([1, 2], 200)
    assert told.last(handle).finish is Finish.LENGTH
    assert told.speculation.counts.given_up == "The draft model broke, and nothing more is drafted by it: no memory"
