"""The engine thread against a model whose answer is known in plain Python."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlxrun.core import Event, Finish, Request, RequestError, Sampling
from mlxrun.engine.budget import ENOUGH
from mlxrun.engine.engine import Engine
from mlxrun.engine.handle import Handle
from mlxrun.engine.prefix_cache import shared_prefix

from .fake import FakeMemory, FakeModel, continuation

GREEDY = Sampling(temperature=0)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine.start(FakeModel, clock=lambda: 0.0)  # nothing is learned of how long a pass takes
    yield engine
    engine.close()


def ask(engine: Engine, prompt: list[int], **how: object) -> list[Event]:
    return list(engine.submit(Request(tuple(prompt), sampling=GREEDY, **how)))


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events for token in event.tokens]


@pytest.mark.parametrize("length", [1, 2, ENOUGH - 1, ENOUGH, ENOUGH + 1, 2 * ENOUGH + 7])
def test_the_answer_does_not_depend_on_how_the_prompt_is_cut(engine: Engine, length: int) -> None:
    prompt = [(7 * i + 3) % 97 for i in range(length)]
    events = ask(engine, prompt, max_tokens=20)
    assert tokens(events) == continuation(prompt, 20)
    assert events[-1].finish is Finish.LENGTH
    assert engine.model.passes[: -(-length // ENOUGH)] == [ENOUGH] * (length // ENOUGH) + [length % ENOUGH] * (
        length % ENOUGH > 0
    )


def test_nothing_is_computed_beyond_the_limit(engine: Engine) -> None:
    ask(engine, [1, 2, 3], max_tokens=5)
    assert engine.model.passes == [3, 1, 1, 1, 1]


def test_who_was_there_when_no_pass_could_be_planned_is_told_and_the_engine_lives(engine: Engine) -> None:
    plan = engine._scheduler.plan

    def fails() -> None:
        engine._scheduler.plan = plan
        raise RuntimeError("a fault of ours")

    engine._scheduler.plan = fails  # type: ignore[assignment]  # for the engine it is the same
    (event,) = ask(engine, [1, 2, 3], max_tokens=5)
    assert event.finish in (Finish.FAILED, Finish.REFUSED)
    assert event.reason == "RuntimeError: a fault of ours"
    assert tokens(ask(engine, [1, 2, 3], max_tokens=5)) == continuation([1, 2, 3], 5)


def test_one_token(engine: Engine) -> None:
    events = ask(engine, [5], max_tokens=1)
    assert (tokens(events), len(events)) == ([5], 1)
    assert events[0].finish is Finish.LENGTH


def test_a_stop_id_ends_it_and_is_not_told(engine: Engine) -> None:
    said = continuation([1, 2, 3], 8)
    stop = said[5]
    assert stop not in said[:5]
    events = ask(engine, [1, 2, 3], max_tokens=50, stop_ids=frozenset({stop}))
    assert (tokens(events), events[-1].finish) == (said[:5], Finish.STOP)
    assert events[-1].usage.output_tokens == 6


def test_the_context_is_a_limit(engine: Engine) -> None:
    small = Engine.start(FakeModel, context=10)
    events = ask(small, [1, 2, 3])
    assert (tokens(events), events[-1].finish) == (continuation([1, 2, 3], 7), Finish.LENGTH)
    small.close()


@pytest.mark.parametrize(
    ("prompt", "how", "said"),
    [
        ([], {}, "The prompt is empty"),
        ([1] * 4096, {}, "no room in a context of 4096"),
        ([1, 97], {}, "outside 0 to 96"),
        ([-1], {}, "outside 0 to 96"),
        ([1], {"max_tokens": 0}, "max_tokens must be"),
    ],
)
def test_refusals_are_events(engine: Engine, prompt: list[int], how: dict, said: str) -> None:
    (event,) = ask(engine, prompt, **how)
    assert event.finish is Finish.REFUSED
    assert said in event.reason
    assert tokens(ask(engine, [1], max_tokens=2)) == continuation([1], 2)  # and the engine goes on


@pytest.mark.parametrize("context", [0, 1, 4097])
def test_a_context_that_the_model_does_not_have(context: int) -> None:
    with pytest.raises(RequestError, match="takes from 2 to 4096"):
        Engine.start(FakeModel, context=context)


def test_a_conversation_runs_only_what_is_new(engine: Engine) -> None:
    first = [1, 2, 3]
    said = tokens(ask(engine, first, max_tokens=4))
    second = [*first, *said, 9, 9]
    engine.model.passes.clear()
    events = ask(engine, second, max_tokens=4)
    assert tokens(events) == continuation(second, 4)
    assert engine.model.passes[0] == 3  # the last of `said` was told but never run, then 9, 9
    assert events[-1].usage.cached_tokens == len(first) + 3


def test_what_one_scope_left_is_not_there_for_another(engine: Engine) -> None:
    ask(engine, [1, 2, 3], max_tokens=5, scope="a")
    found = [ask(engine, [1, 2, 3, 4], max_tokens=2, scope=scope)[-1] for scope in ("b", "", "a")]
    assert [event.usage.cached_tokens for event in found if event.usage] == [0, 0, 3]


@pytest.mark.parametrize("second", [[1, 2, 3], [1, 2], [1, 2, 8, 8, 8, 8], [5, 5, 5], [1]])
def test_another_prompt_after_a_stop_is_as_if_fresh(engine: Engine, second: list[int]) -> None:
    stop = continuation([1, 2, 3], 3)[2]
    ask(engine, [1, 2, 3], stop_ids=frozenset({stop}))  # one step ahead went on past the stop
    assert tokens(ask(engine, second, max_tokens=6)) == continuation(second, 6)


def test_first_come_first_served(engine: Engine) -> None:
    handles = [engine.submit(Request((i, i + 1), 5, GREEDY)) for i in range(8)]
    assert [tokens(list(h)) for h in handles] == [continuation([i, i + 1], 5) for i in range(8)]


def test_cancel_ends_it_and_the_next_one_is_right(engine: Engine) -> None:
    handle = engine.submit(Request((1, 2, 3), sampling=GREEDY))
    events = iter(handle)
    first = [next(events) for _ in range(3)]
    handle.cancel()
    rest = list(events)
    assert rest[-1].finish is Finish.CANCELLED
    said = tokens(first + rest)
    assert said == continuation([1, 2, 3], len(said))
    assert len(said) < 4000
    assert tokens(ask(engine, [1, 2, 3, 4], max_tokens=5)) == continuation([1, 2, 3, 4], 5)


def test_cancel_before_it_begins(engine: Engine) -> None:
    long = engine.submit(Request((1,), sampling=GREEDY))
    waiting = engine.submit(Request((2,), sampling=GREEDY))
    waiting.cancel()
    long.cancel()
    assert [e.finish for e in waiting] == [Finish.CANCELLED]


class Breaking(FakeModel):
    """Breaks on token 13, and says NaN after token 14."""

    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        if 13 in ids.tolist():
            raise RuntimeError("unlucky")
        hidden = super().__call__(ids, sequences)
        return mx.where((ids == 14)[:, None], -1, hidden)

    def logits(self, hidden: mx.array) -> mx.array:
        return mx.where(hidden < 0, mx.nan, super().logits(mx.maximum(hidden, 0)))


@pytest.mark.parametrize(("prompt", "said"), [([13], "unlucky"), ([14], "not a number")])
def test_what_breaks_ends_the_request_and_not_the_thread(prompt: list[int], said: str) -> None:
    engine = Engine.start(Breaking)
    (event,) = ask(engine, prompt)
    assert event.finish is Finish.FAILED
    assert said in event.reason
    assert tokens(ask(engine, [1, 2], max_tokens=4)) == continuation([1, 2], 4)
    engine.close()


def test_a_memory_that_cannot_be_made_ends_the_request() -> None:
    class Poor(FakeModel):
        def new_sequence(self, context: int | None = None) -> FakeMemory:
            raise MemoryError("nothing left")

    engine = Engine.start(Poor)
    assert "nothing left" in ask(engine, [1])[0].reason
    assert "nothing left" in ask(engine, [1])[0].reason
    engine.close()


def test_what_loading_raises_is_raised_to_who_starts() -> None:
    def load() -> FakeModel:
        raise FileNotFoundError("no such model")

    with pytest.raises(FileNotFoundError, match="no such model"):
        Engine.start(load)


def test_the_model_is_loaded_and_run_on_one_thread() -> None:
    threads: set[int] = set()

    class Watched(FakeModel):
        def __init__(self) -> None:
            super().__init__()
            threads.add(threading.get_ident())

        def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
            threads.add(threading.get_ident())
            return super().__call__(ids, sequences)

    engine = Engine.start(Watched)
    ask(engine, [1], max_tokens=3)
    engine.close()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_closing_ends_everything(engine: Engine) -> None:
    other = Engine.start(FakeModel)
    handles: list[Handle] = [other.submit(Request((i,), sampling=GREEDY)) for i in range(3)]
    other.close()
    assert {list(h)[-1].finish for h in handles} <= {Finish.CANCELLED, Finish.LENGTH}
    assert list(other.submit(Request((1,))))[-1].finish is Finish.CANCELLED


def test_usage_counts(engine: Engine) -> None:
    now = iter(range(10**6))
    ticking = Engine.start(FakeModel, clock=lambda: float(next(now)))
    usage = ask(ticking, [1, 2, 3], max_tokens=4)[-1].usage
    ticking.close()
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens) == (3, 0, 4)
    assert usage.prefill_seconds > 0
    assert usage.decode_seconds > 0


def test_shared_prefix() -> None:
    assert shared_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert shared_prefix([1, 2], [1, 2, 4]) == 2
    assert shared_prefix([], [1]) == 0
