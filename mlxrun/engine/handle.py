"""What a caller holds of a request: events come out, a cancel flag goes in. Nothing else crosses threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

from ..core import Event, Request
from ..ops.adapters import Adapter
from .constraint import Grammar


class Handle:
    def __init__(self, request: Request, submitted: float | None = None) -> None:
        """`submitted`: by the engine's clock."""
        self.request, self.submitted = request, time.perf_counter() if submitted is None else submitted
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()  # never blocks who posts
        self._cancelled = threading.Event()
        self._ring: Callable[[], None] | None = None
        self._ended = False
        self.grammar: Grammar | None = None  # what the request's constraint was made into
        self.adapter: Adapter | None = None  # that the request named
        self.read = 0  # tokens of the prompt that the model has seen; the engine counts, whoever likes looks

    def cancel(self) -> None:
        """The request ends within a step, with an event that says so."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def ended(self) -> bool:
        """Whether its last event was posted."""
        return self._ended

    def post(self, event: Event) -> None:
        self._events.put(event)
        if (ring := self._ring) is not None:
            ring()
        if event.finish is not None:
            self._ended, self._ring = True, None  # who listens holds us: neither would be freed before a collection

    def listen(self, ring: Callable[[], None]) -> None:
        """Call `ring` now and after each event, on the thread that posts it: it must neither block nor raise."""
        self._ring = ring
        if self._ended:
            self._ring = None
        ring()

    def ready(self) -> Iterator[Event]:
        """The events that are there already; for who listens instead of waiting."""
        while True:
            try:
                yield self._events.get_nowait()
            except queue.Empty:
                return

    def __iter__(self) -> Iterator[Event]:
        """Every event as it comes; the one with `finish` is the last."""
        while True:
            event = self._events.get()
            yield event
            if event.finish is not None:
                return
