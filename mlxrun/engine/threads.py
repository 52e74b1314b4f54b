"""Threads that may use MLX, one after the other for whoever needs one.

MLX starts an OS thread for the CPU stream of every thread and never ends it: a new thread for each model that is loaded
would leave one behind each time. So ours wait for the next model when one is closed. Knows no model.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

import mlx.core as mx

from ..ops.native import release

Work = Callable[[], None]

_waiting: list[MlxThread] = []
_changing = threading.Lock()


class MlxThread:
    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Work, threading.Event] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._live, name="mlxrun-engine", daemon=True)
        self._thread.start()

    def begin(self, work: Work) -> threading.Event:
        ended = threading.Event()
        self._work.put((work, ended))
        return ended

    def leave(self) -> None:
        self._work.put(None)
        self._thread.join()

    def _live(self) -> None:
        while (given := self._work.get()) is not None:
            work, ended = given
            try:
                work()
                settle()
                with _changing:
                    _waiting.append(self)
            finally:
                ended.set()
            del given, work, ended  # nothing of it is held while we wait
        mx.clear_streams()  # MLX does so by itself only as the process dies, and that race can abort it


def settle() -> None:
    """Nothing runs any more, and no memory is held to run it in."""
    release()
    with suppress(RuntimeError):  # of a computation that nobody waits for any more
        mx.synchronize()


def begin(work: Work) -> threading.Event:
    """On a thread that waits, else on a new one; the event comes when the work has ended."""
    with _changing:
        thread = _waiting.pop() if _waiting else None
    return (thread or MlxThread()).begin(work)


@atexit.register
def leave() -> None:
    with _changing:
        threads = _waiting[:]
        _waiting.clear()
    for thread in threads:
        thread.leave()
