"""Drafts that ride, right ones and wrong ones: what is said, and how it ends, is as if there were none."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxrun.core import Event, Finish, Request, Sampling
from mlxrun.engine.request import Row
from mlxrun.ops.device import this_device
from tests.engine.fake import FakeMemory, FakeModel, continuation
from tests.engine.test_sampling_in_turn import KINDS, WavyModel

from .scripted import engine_of, said, tokens

GREEDY = Sampling(temperature=0)
VOCAB = FakeModel.vocab
NOTHING_SAID: list[int] = []


def told(events: list[Event]) -> tuple[object, ...]:
    """All that a reader is told, but for the time it took."""
    last = events[-1]
    usage = last.usage and (last.usage.prompt_tokens, last.usage.output_tokens)
    return tokens(events), [one for event in events for one in event.logprobs], last.finish, last.reason, usage


def mostly_right(answers: dict[tuple[int, ...], list[int]], wrong: float, most: int):
    """Drafts from what is going to be said, some of them spoilt."""
    random = Random(1)

    def says(row: Row) -> Sequence[int]:
        answer = answers[row.handle.request.tokens]
        coming = answer[len(row.tokens) - row.prompt :][: random.randrange(most + 1)]
        return [random.randrange(VOCAB) if random.random() < wrong else token for token in coming]

    return says


@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
def test_greedy(wrong: float) -> None:
    prompts = [(1, 2, 3), (5,), tuple(range(40))]
    answers = {prompt: continuation(list(prompt), 50) for prompt in prompts}
    with engine_of(FakeModel, mostly_right(answers, wrong, 9)) as (engine, scripted):
        for prompt, events in zip(prompts, said(engine, [Request(p, 50, GREEDY) for p in prompts]), strict=True):
            assert tokens(events) == answers[prompt]
            assert events[-1].finish is Finish.LENGTH
        assert scripted is not None
        assert scripted.rode > 5
        if wrong == 0.0:
            assert len(engine.model.passes) < 40


def test_right_drafts_take_few_passes() -> None:
    answer = continuation([1, 2], 50)
    with engine_of(FakeModel, lambda row: answer[len(row.tokens) - 2 :][:9]) as (engine, _):
        assert tokens(said(engine, [Request((1, 2), 50, GREEDY)])[0]) == answer
        # the prompt; then 10 tokens a pass, the last of which is one that no draft stood for
        assert engine.model.passes == [2, 10, 10, 10, 10, 9]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("wrong", [0.0, 0.4])
def test_whatever_is_asked_of_the_sampler(native: bool, wrong: float) -> None:
    """Penalties and DRY look at drafts as at text, seeds go by a token's number; where mirostat is asked, none ride."""
    device = this_device(native=native and this_device().native)
    model = type("ThatModel", (WavyModel,), {"device": device})
    requests = [
        Request(tuple(range(1, 4 + index)), 12 + index, sampling, frozenset(range(60, 70)))
        for index, sampling in enumerate(KINDS.values())
        if not sampling.mirostat_tau
    ]
    requests += [Request((7, 7, index), 20, Sampling(0.8, seed=index, logprobs=3)) for index in range(3)]
    with engine_of(model, None) as (engine, _):
        plain = said(engine, requests)
    answers = {request.tokens: tokens(events) for request, events in zip(requests, plain, strict=True)}
    with engine_of(model, mostly_right(answers, wrong, 6)) as (engine, scripted):
        drafted = said(engine, requests)
        assert scripted is not None
        assert scripted.rode > 3
    for one, other, request in zip(plain, drafted, requests, strict=True):
        if request.sampling.logprobs is None:
            assert told(one) == told(other)
        else:
            assert tokens(one) == tokens(other)
            for event, its_twin in zip(one, other, strict=True):
                for a, b in zip(event.logprobs, its_twin.logprobs, strict=True):
                    assert a.logprob == pytest.approx(b.logprob, abs=1e-5)
                    assert [token for token, _ in a.top] == [token for token, _ in b.top]


class Known(FakeModel):
    """The same distribution at every place."""

    logits_of_each = mx.array(np.log(np.arange(1, VOCAB + 1, dtype=np.float32)))

    def logits(self, hidden: mx.array) -> mx.array:
        return mx.broadcast_to(self.logits_of_each, (hidden.shape[0], VOCAB))


def test_twenty_thousand_draws_one_by_one() -> None:
    """With likely drafts, the same draws, and from the distribution that was asked for."""
    streams, count = 8, 2500
    requests = [Request((index,), count, Sampling(1.0, seed=index)) for index in range(streams)]
    random = Random(3)

    def guess(row: Row) -> Sequence[int]:
        return random.choices(range(VOCAB), weights=range(1, VOCAB + 1), k=3)

    with engine_of(Known, None) as (engine, _):
        plain = [tokens(events) for events in said(engine, requests)]
    with engine_of(Known, guess) as (engine, scripted):
        drafted = [tokens(events) for events in said(engine, requests)]
        assert scripted is not None
        assert scripted.rode > count / 4
        assert len(engine.model.passes) < count  # some were right
    assert drafted == plain
    draws = np.concatenate([np.array(one) for one in drafted])
    assert len(draws) == streams * count
    expected = np.arange(1, VOCAB + 1) / np.arange(1, VOCAB + 1).sum() * len(draws)
    chi_square = ((np.bincount(draws, minlength=VOCAB) - expected) ** 2 / expected).sum()
    assert chi_square < 153.2  # 1 in 10,000 with 96 degrees of freedom; the seeds are fixed


def test_a_stop_id_among_right_drafts_ends_it_there_and_what_is_kept_is_right() -> None:
    prompt = (3, 4, 5)
    answer = continuation(list(prompt), 12)
    stop = answer[4]
    assert stop not in answer[:4]
    with engine_of(FakeModel, lambda row: answer[len(row.tokens) - 3 :][:9]) as (engine, _):
        events = said(engine, [Request(prompt, 12, GREEDY, frozenset({stop}))])[0]
        assert (tokens(events), events[-1].finish) == (answer[:4], Finish.STOP)
        longer = (*prompt, *answer[:5])
        events = said(engine, [Request(longer, 7, GREEDY)])[0]
        assert tokens(events) == answer[5:]
        assert events[-1].usage.cached_tokens >= len(prompt) + 4


@pytest.mark.parametrize("most", [1, 2, 7, 8, 9])
def test_limits_are_kept_to_the_token(most: int) -> None:
    answer = continuation([1], 40)
    with engine_of(FakeModel, lambda row: answer[len(row.tokens) - 1 :][:20]) as (engine, _):
        events = said(engine, [Request((1,), most, GREEDY)])[0]
        assert (tokens(events), events[-1].finish) == (answer[:most], Finish.LENGTH)
        assert events[-1].usage.output_tokens == most


def test_the_context_ends_within_drafts() -> None:
    class Short(FakeModel):
        context = 30

        def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
            hidden = super().__call__(ids, sequences)
            assert all(memory.length <= memory.context for memory, _ in sequences)
            return hidden

    answer = continuation([1, 2, 3], 60)
    with engine_of(Short, lambda row: answer[len(row.tokens) - 3 :][:20]) as (engine, _):
        events = said(engine, [Request((1, 2, 3), None, GREEDY)])[0]
        assert (tokens(events), events[-1].finish) == (answer[:27], Finish.LENGTH)


def test_what_is_not_a_number_within_drafts_ends_it_after_what_was_good() -> None:
    answer = continuation([1, 2], 30)

    class Mad(FakeModel):
        def logits(self, hidden: mx.array) -> mx.array:
            bad = hidden % VOCAB == answer[5]
            return mx.where(bad, mx.nan, super().logits(hidden))

    assert answer[5] not in answer[:5]
    with engine_of(Mad, lambda row: answer[len(row.tokens) - 2 :][:9]) as (engine, _):
        events = said(engine, [Request((1, 2), 30, GREEDY)])[0]
        assert tokens(events) == answer[:5]
        assert events[-1].finish is Finish.FAILED
        assert "not a number" in str(events[-1].reason)
        assert tokens(said(engine, [Request((1, 4), 3, GREEDY)])[0]) == continuation([1, 4], 3)


def test_a_memory_that_says_it_can_and_then_cannot_go_back_is_made_anew() -> None:
    class Stubborn(FakeMemory):
        def rewind(self, length: int) -> bool:
            return length == self.length

    class Model(FakeModel):
        def new_sequence(self, context: int | None = None) -> FakeMemory:
            return Stubborn(context or self.context)

    with engine_of(Model, lambda row: [0, 0]) as (engine, scripted):
        assert tokens(said(engine, [Request((1, 2), 30, GREEDY)])[0]) == continuation([1, 2], 30)
        assert scripted is not None
        assert scripted.rode > 5


def test_cancelled_within_drafts() -> None:
    with engine_of(FakeModel, lambda row: [0] * 5) as (engine, _):
        handle = engine.submit(Request((1, 2), None, GREEDY))
        events = []
        for event in handle:
            events.append(event)
            if len(events) == 20:
                handle.cancel()
        assert events[-1].finish is Finish.CANCELLED
        assert tokens(events) == continuation([1, 2], len(tokens(events)))


@pytest.mark.parametrize("prompts", [[(4, 4)], [(4, 4), (3, 3, 3), (5, 5, 5, 5)]])
def test_a_pass_with_drafts_that_breaks_takes_nobody_along(prompts: list[tuple[int, ...]]) -> None:
    class Unlucky(FakeModel):
        def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
            if 96 in ids.tolist():
                raise RuntimeError("unlucky")
            return super().__call__(ids, sequences)

    def says(row: Row) -> Sequence[int]:
        return [96] if row.prompt == 2 and len(row.tokens) == 9 else [0]

    with engine_of(Unlucky, says) as (engine, _):
        events = said(engine, [Request(prompt, 16, GREEDY) for prompt in prompts])
        for prompt, one in zip(prompts, events, strict=True):
            assert 96 not in continuation(list(prompt), 16)
            assert tokens(one) == continuation(list(prompt), 16)


arrivals = st.lists(
    st.tuples(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30), st.integers(1, 25), st.integers(0, 60)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25)
@given(arrivals, st.integers(0, 999), st.floats(0, 1))
def test_whoever_comes_and_goes(arrivals: list[tuple[list[int], int, int]], seed: int, wrong: float) -> None:
    random = Random(seed)  # asked on the engine's thread, where Hypothesis's own would end it

    def says(row: Row) -> Sequence[int]:
        coming = continuation(list(row.tokens), random.randrange(9))
        return [random.randrange(VOCAB) if random.random() < wrong else token for token in coming]

    with engine_of(FakeModel, says) as (engine, _):
        handles = [engine.submit(Request(tuple(prompt), count, GREEDY)) for prompt, count, _ in arrivals]
        for handle, (prompt, count, cancel_after) in zip(handles, arrivals, strict=True):
            events = []
            for event in handle:
                events.append(event)
                if len(events) == cancel_after:
                    handle.cancel()
            expected = continuation(prompt, count)
            assert tokens(events) == expected[: len(tokens(events))]
            assert events[-1].finish in (Finish.LENGTH, Finish.CANCELLED)
            if events[-1].finish is Finish.LENGTH:
                assert len(tokens(events)) == count
