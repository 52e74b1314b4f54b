"""How often a growing answer is painted: so rarely that painting stays a small share of one core.

The cost of a paint grows with the answer and with the terminal; the pause between paints grows with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SHARE = 0.2  # of a core, for the thread that paints
SHORTEST, LONGEST = 0.05, 0.5  # seconds between two paints
WINDOW = 3.0  # seconds over which a rate is taken


class Pace:
    def __init__(self, cpu: Callable[[], float] = time.thread_time) -> None:
        self._cpu, self._spent = cpu, cpu()

    def pause(self) -> float:
        """Seconds to wait now, from what was spent since the last call."""
        before, self._spent = self._spent, self._cpu()
        return min(max((self._spent - before) / SHARE, SHORTEST), LONGEST)


class Rate:
    """Tokens a second, lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, tokens: int) -> float | None:
        """None: too little was seen to say."""
        now = self._clock()
        self._seen.append((now, tokens))
        while self._seen[0][0] < now - WINDOW:
            self._seen.popleft()
        began = self._seen[0][0]
        after_first = sum(count for _, count in self._seen) - self._seen[0][1]
        return after_first / (now - began) if now - began > 0.5 and after_first else None
