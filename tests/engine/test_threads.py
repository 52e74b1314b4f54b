"""Models come and go; the process does not grow by a thread with each."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from pathlib import Path

import mlx.core as mx
import pytest

from mlxrun.core import Request, Sampling
from mlxrun.engine import threads
from mlxrun.engine.engine import Engine
from mlxrun.loading.load import load_model
from tests.server.tiny import write_tiny

from .fake import FakeModel

SECONDS = 30  # for anything that is waited for


def asked_and_closed(engine: Engine) -> None:
    list(engine.submit(Request((1, 2, 3), 3, Sampling(temperature=0))))
    engine.close()


def begun_and_ended(work: threads.Work) -> None:
    assert threads.begin(work).wait(SECONDS)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the threads of the process in /proc")
def test_loading_and_closing_leaves_no_thread_behind(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny", context=256)
    counts = []
    for _ in range(4):
        asked_and_closed(Engine.start(lambda: load_model(folder)))
        counts.append(len(list(Path("/proc/self/task").iterdir())))
    assert max(counts) == counts[0]


def test_models_at_the_same_time_have_threads_of_their_own() -> None:
    seen: set[int] = set()

    class Watched(FakeModel):
        def __init__(self) -> None:
            super().__init__()
            seen.add(threading.get_ident())

    engines = [Engine.start(Watched) for _ in range(3)]
    assert len(seen) == 3
    for engine in engines:
        asked_and_closed(engine)
    for engine in [Engine.start(Watched) for _ in range(3)]:
        asked_and_closed(engine)
    assert len(seen) == 3


def test_a_load_that_fails_leaves_its_thread_to_the_next() -> None:
    seen: list[int] = []

    def load() -> FakeModel:
        seen.append(threading.get_ident())
        raise FileNotFoundError("no such model")

    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            Engine.start(load)
    assert seen[0] == seen[1]


def test_what_fails_unseen_on_a_stream_is_not_the_next_ones_fault() -> None:
    said: list[float] = []
    begun_and_ended(lambda: mx.async_eval(mx.linalg.inv(mx.zeros((2, 2)), stream=mx.cpu)))
    begun_and_ended(lambda: said.append((mx.ones((3,)) + 1).sum().item()))
    assert said == [6.0]


def test_a_waiting_thread_holds_nothing_of_what_it_did() -> None:
    class Held:
        pass

    held = Held()
    begun_and_ended(lambda held=held: None)  # type: ignore[misc]  # mypy cannot infer a lambda's default
    gone = weakref.ref(held)
    del held
    begun_and_ended(lambda: None)  # it waits again after this
    gc.collect()
    assert gone() is None
