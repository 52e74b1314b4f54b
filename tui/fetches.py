"""Models that are fetched while another one runs: each on a thread, ended at once, gone on with later.

Knows no widgets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .backend import BROKEN, Backend

LEAVE_SECONDS = 2.0  # that fetches get to end when the program does


class FetchStopped(RuntimeError):
    """What ends a fetch."""


@dataclass(slots=True)
class Fetching:
    done: int = 0  # bytes that are there
    total: int = 0  # 0: nobody said so yet
    running: bool = True
    stopped: bool = False  # by a person


class Fetches:
    def __init__(self, backend: Backend, ended: Callable[[str, str], None]) -> None:
        """`ended` hears of each on its thread: the name, and why it did not arrive, or ""."""
        self._backend, self._ended = backend, ended
        self._known: dict[str, Fetching] = {}
        self._threads: list[threading.Thread] = []

    @property
    def running(self) -> bool:
        return any(one.running for one in self._known.values())

    def known(self, name: str) -> Fetching | None:
        return self._known.get(name)

    @property
    def names(self) -> list[str]:
        """Of those that are under way, or were stopped."""
        return [name for name, one in self._known.items() if one.running or one.stopped]

    def begin(self, name: str) -> None:
        """Or go on with it."""
        before = self._known.get(name)
        if before is not None and before.running:
            return
        mine = self._known[name] = Fetching(before.done if before else 0, before.total if before else 0)
        thread = threading.Thread(target=self._run, args=(name, mine), name="mlxrun-fetch", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self, name: str) -> None:
        if (one := self._known.get(name)) is not None:
            one.stopped = one.running

    def stop_all(self) -> None:
        for name in list(self._known):
            self.stop(name)
        for thread in self._threads:
            thread.join(LEAVE_SECONDS)

    def _run(self, name: str, mine: Fetching) -> None:
        def progress(done: int, total: int) -> None:
            if mine.stopped:
                raise FetchStopped
            mine.done, mine.total = done, total

        reason = ""
        try:
            self._backend.fetch(name, progress)
        except FetchStopped:
            pass
        except BROKEN as error:
            reason = str(error) or type(error).__name__
        if not mine.stopped and not reason:
            mine.done = mine.total
        mine.running = False
        self._ended(name, reason)
