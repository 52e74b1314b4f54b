"""Whoever may still wait for an answer, so that all can be told when none will come: from any thread, also while the
engine's own waits for a pass that never ends.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from weakref import WeakSet

from ..core import Event, Finish, Refusal, RequestError
from .handle import Handle


class NoAnswer(RequestError):
    """Nothing is wrong with the request; asked again later it may be answered."""

    refusal = Refusal.BUSY


class LiveHandles:
    def __init__(self) -> None:
        self._handles: WeakSet[Handle] = WeakSet()
        self._lock = threading.Lock()
        self._lost: str | None = None

    def add(self, handles: Sequence[Handle]) -> None:
        """NoAnswer: none of them will be answered."""
        with self._lock:
            if self._lost is not None:
                raise NoAnswer(self._lost)
            self._handles.update(handles)

    def lose(self, reason: str) -> None:
        with self._lock:
            self._lost = self._lost or reason
            waiting = [handle for handle in self._handles if not handle.ended]
        for handle in waiting:
            handle.post(Event(finish=Finish.FAILED, reason=reason, refusal=Refusal.BUSY))
