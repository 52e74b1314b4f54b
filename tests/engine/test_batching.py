"""Many requests at once: what is in a pass, that no answer depends on the others, and who ends when one breaks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.core import Event, Finish, Refusal, Request, RequestError, Sampling
from mlxrun.engine.budget import ENOUGH, split_budget
from mlxrun.engine.engine import Engine
from mlxrun.engine.handle import Handle

from .fake import FakeMemory, FakeModel, continuation

GREEDY = Sampling(temperature=0)


class Gated(FakeModel):
    """Waits in its first pass, so that what is asked meanwhile comes all at once; breaks or goes mad on some tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()
        self.breaks_on, self.mad_on = -1, -1

    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        self.entered.set()
        assert self.gate.wait(20)
        if self.breaks_on >= 0 and self.breaks_on in ids.tolist():
            raise RuntimeError("unlucky")
        hidden = super().__call__(ids, sequences)
        return mx.where((ids == self.mad_on)[:, None], -1, hidden) if self.mad_on >= 0 else hidden

    def logits(self, hidden: mx.array) -> mx.array:
        return mx.where(hidden < 0, mx.nan, super().logits(mx.maximum(hidden, 0)))


class Many:
    def __init__(self) -> None:
        self.engine = Engine.start(Gated, clock=lambda: 0.0)  # so nothing is learned of how long a pass takes
        self.model: Gated = self.engine.model

    def ask(self, prompts: Sequence[Sequence[int]], count: int = 12, sampling: Sampling = GREEDY) -> list[Handle]:
        """All are there before the first pass ends."""
        handles = [self.engine.submit(Request(tuple(prompts[0]), count, sampling))]
        assert self.model.entered.wait(20)
        handles += [self.engine.submit(Request(tuple(prompt), count, sampling)) for prompt in prompts[1:]]
        self.model.gate.set()
        return handles


@pytest.fixture
def many() -> Iterator[Many]:
    many = Many()
    yield many
    many.model.gate.set()
    many.engine.close()


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events for token in event.tokens]


def prompt_of(length: int, salt: int) -> list[int]:
    return [(7 * i + 13 * salt + 3) % 97 for i in range(length)]


def test_each_answer_is_as_if_alone(many: Many) -> None:
    prompts = [prompt_of(length, i) for i, length in enumerate([3, 1, 700, 40, 2, 512, 1500, 9, 60, 5, 300])]
    handles = many.ask(prompts, 30)
    for prompt, handle in zip(prompts, handles, strict=True):
        assert tokens(list(handle)) == continuation(prompt, 30)


def test_short_prompts_go_through_the_model_together(many: Many) -> None:
    handles = many.ask([prompt_of(4 + i, i) for i in range(5)], 40)
    for handle in handles:
        list(handle)
    assert many.model.shapes[:3] == [[4], [1, 5, 6, 7, 8], [1] * 5]


def test_a_long_prompt_does_not_stop_who_speaks(many: Many) -> None:
    short, long = prompt_of(3, 0), prompt_of(5 * ENOUGH, 1)
    handles = many.ask([short, long], 50)
    assert tokens(list(handles[0])) == continuation(short, 50)
    assert tokens(list(handles[1])) == continuation(long, 50)
    assert many.model.shapes[:7] == [[3], *[[1, ENOUGH]] * 5, [1, 1]]


def test_a_short_prompt_overtakes_a_long_one(many: Many) -> None:
    long, short = prompt_of(6 * ENOUGH, 0), prompt_of(10, 1)
    first, second = many.ask([long, short], 4)
    assert tokens(list(second)) == continuation(short, 4)
    assert many.model.shapes[1] == [ENOUGH - 10, 10]
    assert tokens(list(first)) == continuation(long, 4)


def test_seeds_mean_the_same_beside_others(many: Many) -> None:
    class Flat(Gated):
        def logits(self, hidden: mx.array) -> mx.array:
            return super().logits(hidden) / 20

    many.model.__class__ = Flat
    seeds = [1, 2, 3, 1]
    handles = many.ask([[5, 6]], 20, Sampling(1.0, seed=99))
    handles += [many.engine.submit(Request((5, 6), 20, Sampling(1.0, seed=seed))) for seed in seeds]
    said = [tokens(list(handle)) for handle in handles][1:]
    alone = [tokens(list(many.engine.submit(Request((5, 6), 20, Sampling(1.0, seed=seed))))) for seed in seeds]
    assert said == alone
    assert said[0] == said[3]
    assert said[0] != said[1]


@pytest.mark.parametrize("where", ["prompt", "first", "later"])
def test_only_who_breaks_the_batch_ends(many: Many, where: str) -> None:
    good = [[1, 2, 3], [2, 2, 4], prompt_of(ENOUGH + 5, 2)]
    culprit = [11, 12, 50]
    said = continuation(culprit, 12)
    many.model.breaks_on = bad = {"prompt": 50, "first": said[0], "later": said[4]}[where]
    good = [prompt for prompt in good if bad not in [*prompt, *continuation(prompt, 12)]]
    assert good
    handles = many.ask([*good, culprit])
    for prompt, handle in zip(good, handles, strict=False):
        events = list(handle)
        assert (tokens(events), events[-1].finish) == (continuation(prompt, 12), Finish.LENGTH)
    events = list(handles[-1])
    assert events[-1].finish is Finish.FAILED
    assert "unlucky" in str(events[-1].reason)
    assert tokens(events) == said[: {"prompt": 0, "first": 1, "later": 5}[where]][: len(tokens(events))]


def test_two_who_break_end_both(many: Many) -> None:
    many.model.breaks_on = 50
    one, two, good = many.ask([[1, 50], [2, 50], [3, 3]])
    assert [list(handle)[-1].finish for handle in (one, two)] == [Finish.FAILED] * 2
    assert tokens(list(good)) == continuation([3, 3], 12)


def test_seeds_survive_a_batch_that_broke(many: Many) -> None:
    class Flat(Gated):
        def logits(self, hidden: mx.array) -> mx.array:
            return super().logits(hidden) / 3

    many.model.__class__ = Flat
    asked = Request((5, 6), 40, Sampling(1.0, seed=4))
    alone = many.engine.submit(asked)
    many.model.gate.set()
    expected = tokens(list(alone))
    absent = next(token for token in range(97) if token not in [5, 6, 7, 8, *expected])
    many.model.breaks_on = absent
    handle, broken = many.engine.submit(asked), many.engine.submit(Request((7, 8, absent), 5, GREEDY))
    assert list(broken)[-1].finish is Finish.FAILED
    assert tokens(list(handle)) == expected


def test_what_is_not_a_number_ends_one(many: Many) -> None:
    many.model.mad_on = 50
    mad, good = many.ask([[1, 50], [3, 3]])
    events = list(mad)
    assert (events[-1].finish, tokens(events)) == (Finish.FAILED, [])
    assert "not a number" in str(events[-1].reason)
    assert tokens(list(good)) == continuation([3, 3], 12)


def test_who_is_cancelled_leaves_the_others_alone(many: Many) -> None:
    handles = many.ask([[i, 1] for i in range(10)], 400)
    next(iter(handles[1]))
    handles[1].cancel()
    handles[-1].cancel()  # waits still, or runs already
    for i, handle in enumerate(handles):
        events = list(handle)
        if i in (1, 9):
            assert events[-1].finish is Finish.CANCELLED
        else:
            assert tokens(events) == continuation([i, 1], 400)


def test_a_full_queue_refuses_with_a_reason(many: Many) -> None:
    many.engine._scheduler._waiting.most = 30
    handles = many.ask([[1, 2]] * 35, 1)
    ends = [list(handle)[-1] for handle in handles]
    assert [end.finish for end in ends] == [Finish.LENGTH] * 31 + [Finish.REFUSED] * 4
    assert "30 requests are waiting" in str(ends[-1].reason)
    assert {end.refusal for end in ends} == {None, Refusal.QUEUE}


def test_conversations_that_alternate_each_find_what_they_left(many: Many) -> None:
    many.model.gate.set()
    turns = [prompt_of(50, salt) for salt in range(12)]
    for _ in range(3):
        for i, prompt in enumerate(turns):
            events = list(many.engine.submit(Request(tuple(prompt), 5, GREEDY)))
            assert tokens(events) == continuation(prompt, 5)
            usage = events[-1].usage
            assert usage is not None
            assert usage.cached_tokens == (0 if len(prompt) == 50 else len(prompt) - 3)
            turns[i] = [*prompt, *tokens(events), 8, 9]


def test_prompts_that_begin_alike_do_not_rob_each_other(many: Many) -> None:
    many.model.gate.set()
    system = prompt_of(30, 0)
    one, other = [*system, *prompt_of(100, 1)], [*system, 3, 3, *prompt_of(100, 2)]
    cached = []
    for prompt in (one, other, [*one, 1], [*other, 1]):
        events = list(many.engine.submit(Request(tuple(prompt), 1, GREEDY)))
        assert tokens(events) == continuation(prompt, 1)
        cached.append(events[-1].usage.cached_tokens if events[-1].usage else None)
    assert cached == [0, 30, len(one), len(other)]


def test_three_hundred_at_once_are_all_answered(many: Many) -> None:
    handles = many.ask([[i % 97, 3] for i in range(300)], 5)
    for i, handle in enumerate(handles):
        assert tokens(list(handle)) == continuation([i % 97, 3], 5)
    assert max(map(len, many.model.shapes)) > 30
    said = many.engine.statistics().totals
    assert (said["ended_length"], said["output_tokens"]) == (300, 1500)


def test_several_answers_each_have_a_handle(many: Many) -> None:
    many.model.gate.set()
    with pytest.raises(RequestError, match="submit_choices"):
        many.engine.submit(Request((1, 2), 5, GREEDY, n=2))
    handles = many.engine.submit_choices(Request(tuple(prompt_of(100, 1)), 5, GREEDY, n=3, best_of=4))
    for choice, handle in enumerate(handles):
        events = list(handle)
        assert tokens(events) == continuation(prompt_of(100, 1), 5)
        assert {event.choice for event in events} == {choice}
    refused = many.engine.submit_choices(Request((98,), n=3))
    assert [list(handle)[-1].finish for handle in refused] == [Finish.REFUSED] * 3


def test_who_drains_answers_what_was_asked_and_takes_nothing_new(many: Many) -> None:
    handles = many.ask([[i, 1] for i in range(20)], 50)
    draining = threading.Thread(target=many.engine.drain, args=(60,))
    draining.start()
    while not many.engine._draining.is_set():
        pass
    late = list(many.engine.submit(Request((1, 2), 5, GREEDY)))[-1]
    assert late.finish in (Finish.REFUSED, Finish.CANCELLED)  # the engine may be closed by now
    if late.finish is Finish.REFUSED:
        assert (late.refusal, "nothing new is taken" in str(late.reason)) == (Refusal.BUSY, True)
    for i, handle in enumerate(handles):
        assert tokens(list(handle)) == continuation([i, 1], 50)
    draining.join(20)
    assert not draining.is_alive()
    assert list(many.engine.submit(Request((1,))))[-1].finish is Finish.CANCELLED


def test_draining_ends_what_takes_too_long(many: Many) -> None:
    (handle,) = many.ask([[1, 1]], 4000)
    many.engine.drain(0.0)
    assert list(handle)[-1].finish in (Finish.CANCELLED, Finish.LENGTH)


def test_a_deadline_by_the_engine_s_own_clock() -> None:
    engine = Engine.start(FakeModel)
    try:
        late = list(engine.submit(Request((1, 2), sampling=GREEDY, deadline=0.05)))[-1]
        past = list(engine.submit(Request((1, 2), sampling=GREEDY, deadline=-1.0)))[-1]
    finally:
        engine.close()
    assert late.finish is Finish.EXPIRED
    assert "deadline of 0.05 s" in str(late.reason)
    assert past.finish is Finish.REFUSED


def test_memory_is_told_from_any_thread(many: Many) -> None:
    many.model.gate.set()
    list(many.engine.submit(Request((1, 2, 3), 3, GREEDY)))
    told = many.engine.memory()
    assert 0 <= told.free <= told.total
    assert told.weights == 0  # that of FakeModel; what passes work with is none of it
    assert told.active > told.cache
    assert told.peak >= told.active > 0


@given(st.lists(st.integers(1, 2000), max_size=8), st.sampled_from([128, 512]))
def test_shares(wanted: list[int], budget: int) -> None:
    given = split_budget(wanted, budget)
    assert all(0 <= got <= want for got, want in zip(given, wanted, strict=True))
    assert sum(given) == min(budget, sum(wanted))
    if wanted:
        assert given[0] >= min(wanted[0], budget // 2)
    later = sorted(list(zip(wanted, given, strict=True))[1:], key=lambda pair: pair[0])
    assert all(got == want or more_got == 0 for (want, got), (_, more_got) in pairwise(later))
