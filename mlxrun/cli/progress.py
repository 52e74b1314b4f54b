"""A line on stderr that grows: bytes, share and rate. On a terminal only, and gone when it is full."""

from __future__ import annotations

import shutil
import sys
import time

EVERY = 0.1  # seconds
SOON = 0.3  # what is done before is not worth a line
WIDTH = 24


class Bar:
    def __init__(self, label: str) -> None:
        self._label = label
        self._began = self._shown = 0.0
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        now = time.perf_counter()
        self._began = self._began or now
        if done >= total:
            self.clear()
        elif now - self._began >= SOON and now - self._shown >= EVERY:
            self._shown, self._drawn = now, True
            columns = shutil.get_terminal_size((80, 24)).columns
            print("\r" + self.line(done, total, now - self._began)[: columns - 1] + "\033[K", end="", file=sys.stderr)
            sys.stderr.flush()

    def clear(self) -> None:
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = False

    def line(self, done: int, total: int, seconds: float) -> str:
        full = round(WIDTH * done / max(1, total))
        rate = f", {done / seconds / 1e6:.0f} MB/s" if seconds > 0 else ""
        return f"{self._label} {'█' * full}{'·' * (WIDTH - full)} {done / 1e9:.2f} of {total / 1e9:.2f} GB{rate}"
