"""How far a fetch is, told to whoever shows a bar while a thread of its own fetches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..store.arriving import Arriving, Coming, Told

SECONDS = 0.3  # between two looks at what has arrived


@contextmanager
def watched(progress: Callable[[int, int], None]) -> Iterator[Told]:
    """`progress` hears of bytes from another thread until this ends. What it raises ends the telling, not the fetch."""
    over = threading.Event()

    def told(coming: Coming) -> None:
        threading.Thread(
            target=_tell, args=(Arriving(coming), progress, over), name="mlxrun-arrival", daemon=True
        ).start()

    try:
        yield told
    finally:
        over.set()


def _tell(arriving: Arriving, progress: Callable[[int, int], None], over: threading.Event) -> None:
    while not over.wait(SECONDS):
        try:
            progress(arriving.arrived, arriving.coming.bytes)
        except (RuntimeError, ValueError, OSError):  # whoever listened has left
            return
