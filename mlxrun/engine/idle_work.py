"""What the engine's thread does while nobody asks: something that can wait, a short slice at a time.

It begins after the first request and a while of silence; whoever asks waits for one slice at most. A slice that
fails ends it: it is worth less than the thread. When nothing is left to do, what only requests need is given back,
once for each silence. Knows not what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from ..loading.model import Runnable

Slices = Generator[object, None, None]  # each step of it is a slice
Idle = Callable[[Runnable], Slices]

QUIET = 2.0  # seconds of silence before it goes on


class IdleWork:
    def __init__(self, slices: Slices | None, give_back: Callable[[], object] = lambda: None) -> None:
        self._slices, self._give_back = slices, give_back
        self._asked = self._silent = False

    @property
    def patience(self) -> float | None:
        """Seconds to wait for a request before the next slice; None: for ever."""
        if not self._asked:
            return None
        return 0.0 if self._silent else QUIET

    def asked(self) -> None:
        """Somebody asked; where the thread has nothing to do afterwards, the silence begins then."""
        self._asked, self._silent = True, False

    def go_on(self) -> None:
        """Nobody asked for so long: one slice, or the end."""
        self._silent = True
        if self._slices is not None and ran_well(self._slices.__next__):
            return
        self._slices, self._asked = None, False
        ran_well(self._give_back)

    def end(self) -> None:
        """It may put away what it has; then nothing is held any more."""
        if self._slices is not None:
            ran_well(self._slices.close)
        self._slices, self._asked = None, False


def ran_well(what: Callable[[], object]) -> bool:
    try:
        what()
    except Exception:  # noqa: BLE001 the thread lives on; StopIteration is how it ends
        return False
    return True
