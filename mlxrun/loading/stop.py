"""A load that somebody may end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Stop:
    """Progress of a load that ends it once somebody has said so."""

    def __init__(self, inner: Callable[[int, int], None]) -> None:
        self._inner, self._asked = inner, threading.Event()

    def now(self) -> None:
        self._asked.set()

    def __call__(self, done: int, total: int) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._inner(done, total)
