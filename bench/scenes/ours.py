"""Our engine in this process. Times are taken on its own thread as it posts a token, so that no reader weighs on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from mlxrun.core import Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.engine.handle import Handle
from mlxrun.loading import LoadOptions, load_model

from .asked import Ask, Told

SAMPLED = Sampling(temperature=0.8, top_p=0.95, seed=1)
BEFORE = 4  # tokens of the other one
EVERY = 0.01  # seconds between two looks at what is held


class Ours:
    name = "mlxrun"

    def __init__(self, file: Path, ready: Path) -> None:
        self.engine = Engine.start(lambda: load_model(file, options=LoadOptions(ready=ready)))
        self.context, self.vocab = self.engine.context, self.engine.model.vocab

    def ask(self, asks: Sequence[Ask]) -> list[Told]:
        began, started = time.perf_counter(), [threading.Event() for _ in asks]
        heard = [Heard(event, BEFORE) for event in started]
        for number in sorted(range(len(asks)), key=lambda i: (asks[i].behind is not None, asks[i].after)):
            one = asks[number]
            if one.behind is not None:
                started[one.behind].wait()
            time.sleep(max(0.0, began + one.after - time.perf_counter()))
            heard[number].begin(self.engine, one)
        for own, one in zip(heard, asks, strict=True):
            if one.until is not None:
                heard[one.until].wait()
                own.cancel()
        return [each.wait() for each in heard]

    def held(self) -> int:
        """Bytes of what sequences remember, as the engine last looked."""
        return self.engine.memory().cache

    def close(self) -> None:
        self.engine.close()


class Heard:
    def __init__(self, started: threading.Event, before: int) -> None:
        self.told, self._started, self._before, self._ended = Told(), started, before, threading.Event()
        self._handle: Handle | None = None
        self._failed: str | None = None

    def begin(self, engine: Engine, one: Ask) -> None:
        sampling = SAMPLED if one.sampled else Sampling(temperature=0.0)
        self.told.began = time.perf_counter()
        self._handle = engine.submit(Request(tuple(one.tokens), one.answer, sampling))
        self._handle.listen(self._ring)

    def _ring(self) -> None:
        assert self._handle is not None
        for event in self._handle.ready():
            for _ in event.tokens:  # those that come together came at one time
                self.told.times.append(time.perf_counter())
                self.told.host.append(time.thread_time())
            self.told.tokens += event.tokens
            if len(self.told.times) >= self._before:
                self._started.set()
            if event.finish is not None:
                self._failed = event.reason
                self.told.cached = None if event.usage is None else event.usage.cached_tokens
                self._started.set()
                self._ended.set()

    def cancel(self) -> None:
        assert self._handle is not None
        self._handle.cancel()

    def wait(self) -> Told:
        self._ended.wait()
        if self._failed is not None or not self.told.times:
            raise SystemExit(f"mlxrun gave no answer: {self._failed}")
        return self.told


class Watch:
    """The most that was held while it was entered."""

    def __init__(self, peer: Ours) -> None:
        self._peer, self._end, self.most = peer, threading.Event(), 0
        self.before = peer.held()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._end.wait(EVERY):
            self.most = max(self.most, self._peer.held())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
