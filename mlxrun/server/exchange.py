"""The answers to one request on their way: engine's thread to event loop, without a thread waiting for each.

The engine rings, the loop wakes and takes all that is there: a reader that is slow finds its pieces
joined, and nobody else waits for it. Whatever happens here, no answer is left running.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any, TypeVar

from starlette.types import Receive

from ..parts import Piece, joined
from ..text.wanted import until
from .answering import Answering
from .metrics import Metrics

T = TypeVar("T")


class ClientGone(Exception):
    """Nobody is there to read an answer."""


class Exchange:
    def __init__(
        self, answers: Sequence[Answering], metrics: Metrics, ended: Callable[[Piece], None] = lambda piece: None
    ) -> None:
        """`ended` is told of the last piece of each answer."""
        self._answers, self._metrics, self._ended = answers, metrics, ended
        self._open = set(range(len(answers)))
        self._started: set[int] = set()
        self._began = time.perf_counter()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._rung = self._quiet = False
        self._told = self._loop.time()  # when the reader was last told something
        self._clock: asyncio.TimerHandle | None = None
        metrics.waiting.inc(len(answers))
        for answer in answers:
            answer.listen(self._ring)

    def _ring(self) -> None:
        """On the engine's thread. One ring is enough until the loop has looked."""
        if not self._rung:
            self._rung = True
            with suppress(RuntimeError):  # the loop has ended before the engine did
                self._loop.call_soon_threadsafe(self._wake.set)

    async def batches(self, idle: float) -> AsyncIterator[list[tuple[int, Piece]]]:
        """What came, with the number of its answer; empty if the reader was told nothing for `idle` seconds."""
        self._watch(idle)
        while self._open:
            await self._wake.wait()
            self._wake.clear()
            self._rung = False  # before looking: who posts from now on rings again
            quiet, self._quiet = self._quiet, False
            batch = [(index, piece) for index in sorted(self._open) if (piece := self._take(index))]
            if batch or quiet:
                self._told = self._loop.time()
                yield batch

    def _watch(self, idle: float) -> None:
        """One clock for an answer: to set one for each piece took a sixth of what a piece takes."""
        left = self._told + idle - self._loop.time()
        if left <= 0:
            self._quiet, left = True, idle
            self._wake.set()
        self._clock = self._loop.call_later(left, self._watch, idle)

    def _take(self, index: int) -> Piece | None:
        pieces = list(self._answers[index].ready())
        if not pieces:
            return None
        piece = joined(pieces)
        if index not in self._started:
            self._started.add(index)
            self._metrics.started(time.perf_counter() - self._began)
        if piece.finish is not None:
            self._open.discard(index)
            self._metrics.finished(piece, time.perf_counter() - self._began)
            self._ended(piece)
        return piece

    def close(self) -> None:
        """Cancel what is still running."""
        if self._clock is not None:
            self._clock.cancel()
        for index in self._open:
            self._answers[index].cancel()
            self._metrics.left(started=index in self._started)
        self._open.clear()


class Traffic:
    """The answers that are on their way, all requests together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._running: set[Answering] = set()
        self._reserved = 0
        self.stopping = False  # no more come
        self.cut = False  # and those that are on their way end now
        self.empty = asyncio.Event()  # of answers, when no more come

    def reserve(self, count: int) -> bool:
        if self._reserved + count > self.limit:
            return False
        self._reserved += count
        return True

    def leave(self, count: int) -> None:
        self._reserved -= count
        self._look()

    def drain(self) -> None:
        """No more come; those that are on their way go on."""
        self.stopping = True
        self._look()

    def _look(self) -> None:
        if self.stopping and not self._reserved:
            self.empty.set()

    @contextmanager
    def running(self, answers: Sequence[Answering]) -> Iterator[None]:
        self._running.update(answers)
        if self.cut:
            self.stop()
        try:
            yield
        finally:
            self._running.difference_update(answers)

    def stop(self) -> None:
        """Cancel all that runs and all that still comes; each answer says so to its reader."""
        self.cut = True
        self.drain()
        self.empty.set()
        for answer in self._running:
            answer.cancel()


async def worked(pool: ThreadPoolExecutor, work: Callable[[], T], gone: Callable[[Future[T]], None] | None = None) -> T:
    """What `work` returns, run in the pool; if we are cancelled meanwhile, it ends where it can, and `gone` is told."""
    left = Event()
    job = asyncio.get_running_loop().run_in_executor(pool, until, left, work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        left.set()
        job.add_done_callback(gone or _forget)
        raise


async def started(pool: ThreadPoolExecutor, start: Callable[[], Sequence[Answering]]) -> Sequence[Answering]:
    """Answers that are cancelled if we are before they are here."""
    return await worked(pool, start, _cancel_answers)


def _forget(job: Future[Any]) -> None:
    if not job.cancelled():
        job.exception()  # nobody waits for it


def _cancel_answers(job: Future[Sequence[Answering]]) -> None:
    if not job.cancelled() and job.exception() is None:
        for answer in job.result():
            answer.cancel()


async def while_there(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; if the client leaves first, work is cancelled and ClientGone raised."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return await working
    finally:
        await _ended(working, watching)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
