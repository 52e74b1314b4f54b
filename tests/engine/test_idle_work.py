"""What the engine's thread does while nobody asks: after the first answer, in silence, and never between two passes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator
from queue import SimpleQueue

import mlx.core as mx
import pytest

from mlxrun.core import Event, Finish, Request, Sampling
from mlxrun.engine import engine as engine_module
from mlxrun.engine import idle_work
from mlxrun.engine.engine import Engine
from mlxrun.engine.idle_work import QUIET, IdleWork

from .fake import FakeMemory, FakeModel, continuation


def counting(most: int, seen: list[int]) -> Generator[None, None, None]:
    try:
        for number in range(most):
            seen.append(number)
            yield
    finally:
        seen.append(-1)


def test_it_waits_for_the_first_request_and_then_for_silence() -> None:
    seen: list[int] = []
    one = IdleWork(counting(3, seen))
    assert one.patience is None
    one.asked()
    assert one.patience == QUIET
    one.go_on()
    assert (one.patience, seen) == (0.0, [0])
    one.asked()
    assert one.patience == QUIET
    for _ in range(3):
        one.go_on()
    assert (one.patience, seen) == (None, [0, 1, 2, -1])


def test_nothing_to_do_and_what_fails() -> None:
    def failing() -> Generator[None, None, None]:
        raise RuntimeError("no")
        yield

    for one in (IdleWork(None), IdleWork(failing())):
        one.asked()
        one.go_on()
        assert one.patience is None
        one.end()


def test_what_ends_early_may_put_things_away() -> None:
    seen: list[int] = []
    one = IdleWork(counting(9, seen))
    one.asked()
    one.go_on()
    one.end()
    assert (one.patience, seen) == (None, [0, -1])


def test_when_nothing_is_left_to_do_memory_is_given_back_once_for_each_silence() -> None:
    seen: list[int] = []
    one = IdleWork(counting(1, seen), lambda: seen.append(100))
    assert one.patience is None  # nobody ever asked
    one.asked()
    one.go_on()
    one.go_on()
    assert (one.patience, seen) == (None, [0, -1, 100])
    one.asked()
    assert one.patience == QUIET
    one.go_on()
    assert (one.patience, seen) == (None, [0, -1, 100, 100])


def test_a_silent_engine_gives_back_what_only_requests_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_work, "QUIET", 0.0)
    given_back: SimpleQueue[bool] = SimpleQueue()
    monkeypatch.setattr(engine_module, "give_back_all", lambda: given_back.put(True))
    engine = Engine.start(FakeModel)
    try:
        for _ in range(2):
            ask(engine)
            assert given_back.get(timeout=20)
    finally:
        engine.close()


def test_a_silent_engine_holds_no_request_and_no_memory_of_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[object]] = []
    waits: SimpleQueue[bool] = SimpleQueue()
    monkeypatch.setattr(idle_work, "QUIET", 0.0)
    monkeypatch.setattr(engine_module, "give_back_all", lambda: waits.put(True))

    class Broken(FakeModel):
        def new_sequence(self, context: int | None = None) -> FakeMemory:
            memory = super().new_sequence(context)
            made.append(weakref.ref(memory))
            return memory

        def logits(self, hidden: mx.array) -> mx.array:
            raise RuntimeError("broken")

    engine = Engine.start(Broken)
    try:
        handle = engine.submit(Request((1, 2, 3), 5, Sampling(0.0)))
        made.append(weakref.ref(handle))
        assert list(handle)[-1].finish is Finish.FAILED
        del handle
        assert waits.get(timeout=20)
        assert [one() for one in made] == [None, None]
    finally:
        engine.close()


class Logged(FakeModel):
    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        self.log.append("pass")
        return super().__call__(ids, sequences)


def test_the_engine_goes_on_with_it_only_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    enough, again = threading.Event(), threading.Event()
    monkeypatch.setattr(idle_work, "QUIET", 0.0)

    def idle(model: object) -> Generator[None, None, None]:
        for number in range(40):
            log.append("slice")
            if number == 20:
                enough.set()
                assert again.wait(20)  # a request comes in the middle of a slice
            yield
        log.append("end")
        enough.set()

    engine = Engine.start(lambda: Logged(log), idle=idle)
    try:
        ask(engine)
        assert enough.wait(20)
        assert log == ["pass"] * 5 + ["slice"] * 21
        enough.clear()
        handle = engine.submit(Request((1, 2, 3), 5, Sampling(0.0)))
        again.set()
        assert [token for event in handle for token in event.tokens] == continuation([1, 2, 3], 5)
        assert enough.wait(20)
        passes = log.count("pass") - 5
        assert log == [*["pass"] * 5, *["slice"] * 21, *["pass"] * passes, *["slice"] * 19, "end"]
        ask(engine)
    finally:
        engine.close()


def test_a_closed_engine_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_work, "QUIET", 0.0)
    begun, ended = threading.Event(), threading.Event()

    def idle(model: object) -> Generator[None, None, None]:
        try:
            while True:
                begun.set()
                yield
        finally:
            ended.set()

    engine = Engine.start(FakeModel, idle=idle)
    ask(engine)
    assert begun.wait(20)
    engine.close()
    assert ended.is_set()


def ask(engine: Engine) -> None:
    events = list[Event](engine.submit(Request((1, 2, 3), 5, Sampling(0.0))))
    assert events[-1].finish is Finish.LENGTH
    assert [token for event in events for token in event.tokens] == continuation([1, 2, 3], 5)
