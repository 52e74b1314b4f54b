"""An engine whose pass never ends: whoever waits is told from another thread, and so is who asks later."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import mlx.core as mx

from mlxrun.core import Event, Finish, Refusal, Request
from mlxrun.engine.engine import Engine
from mlxrun.loading.model import Holdings

from .fake import FakeModel

ASKED = Request((1, 2, 3), max_tokens=4)
WHY = "A machine is lost."


class StuckModel(FakeModel):
    """Whose pass waits until a test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any, **more: Any) -> mx.array:
        self.begun.set()
        self.go_on.wait()
        return super().__call__(*arguments, **more)


class BreakingModel(FakeModel):
    """Whose passes break, and who knows that no other will go well."""

    def __init__(self) -> None:
        super().__init__()
        self.holdings = Holdings(lost=lambda error: WHY if str(error) == "gone" else None)

    def __call__(self, *arguments: Any, **more: Any) -> mx.array:
        raise RuntimeError("gone")


def is_told(events: list[Event]) -> bool:
    last = events[-1]
    return (last.reason, last.refusal) == (WHY, Refusal.BUSY) and last.finish in (Finish.FAILED, Finish.REFUSED)


def test_who_waits_and_who_asks_later_is_told() -> None:
    model = StuckModel()
    with closing(Engine.start(lambda: model)) as engine:
        waiting = [engine.submit(ASKED), engine.submit(ASKED)]
        model.begun.wait()
        engine.lose(WHY)
        assert all(is_told(list(handle)) for handle in waiting)
        assert is_told(list(engine.submit(ASKED)))
        model.go_on.set()


def test_a_pass_that_broke_for_good_ends_all_answers_so() -> None:
    with closing(Engine.start(BreakingModel)) as engine:
        handles = [engine.submit(ASKED), engine.submit(ASKED)]
        assert all(is_told(list(handle)) for handle in handles)
        assert is_told(list(engine.submit(ASKED)))
