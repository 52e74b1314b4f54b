"""How much memory of a Mac can still be used, as its kernel says; its total only where that says nothing.

Read in Apple's sources (XNU 11417: osfmk/vm/vm_pageout.c, osfmk/kern/host.c, bsd/kern/kern_memorystatus_notify.c) and
never run on a Mac. What the pressure levels are worth here is our choice, measured by nobody.

`unused`: pages that are free, that hold what files hold (mapped weights among them), or that their owners gave up. What
is merely inactive is not counted: if it belongs to a program, it must be compressed first.
`reclaimable`: `kern.memorystatus_level`, the percentage of all memory that is neither wired nor compressed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from . import darwin

LEVEL = "kern.memorystatus_level"
LAG = 1.5  # osfmk/kern/host.c: HOST_STATISTICS_TIME_WINDOW is one second
WINDOW = 60.0  # seconds, in which growing swap counts
WARNING, CRITICAL = 2, 4  # of kern.memorystatus_vm_pressure_level; 1 is normal
WORDS = {WARNING: "warning", CRITICAL: "critical"}


@dataclass(frozen=True, slots=True)
class MacMemory:
    """In bytes; None: the system did not say."""

    total: int
    unused: int | None
    reclaimable: int | None
    pressure: int | None
    swap: int | None  # in use

    @property
    def available(self) -> int:
        """Without pushing anybody out; under pressure half of it, and nothing where the kernel begins to kill."""
        least = min(known for known in (self.total, self.unused, self.reclaimable) if known is not None)
        if self.pressure is not None and self.pressure >= CRITICAL:
            return 0
        return least // 2 if self.pressure is not None and self.pressure >= WARNING else least

    @property
    def told(self) -> str:
        """The pressure in a word."""
        return "unknown" if self.pressure is None else WORDS.get(self.pressure, "normal")


def mac_memory() -> MacMemory | None:
    """As it is now; None: this is no Mac, or not even its size is known."""
    total = darwin.sysctl_number("hw.memsize")
    if not total:
        return None
    pages, size, level = darwin.pages(), darwin.sysctl_number("hw.pagesize"), darwin.sysctl_number(LEVEL)
    unused = None
    if pages is not None and size:
        unused = size * (max(0, pages.free - pages.speculative) + pages.external + pages.purgeable)
    return MacMemory(
        total=total,
        unused=unused,
        reclaimable=None if level is None or not 0 <= level <= 100 else total * level // 100,
        pressure=darwin.sysctl_number("kern.memorystatus_vm_pressure_level"),
        swap=darwin.swap_used(),
    )


def system_lag() -> float:
    """Seconds that `available` may be old: a Mac answers a process a few times a second and then repeats itself."""
    return 0.0 if darwin.system() is None else LAG


class SwapWatch:
    """What the system has moved to its swap files lately, while a model runs: memory that was there and is not.

    What was moved before, or slowly over hours, is nobody's fault here: each window begins anew.
    """

    def __init__(
        self, used: Callable[[], int | None] = darwin.swap_used, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._used, self._clock = used, clock
        self.forgive()

    def forgive(self) -> None:
        """Somebody has made up for it."""
        self._began, self._before = self._clock(), self._used()

    def grown(self) -> int:
        used, now = self._used(), self._clock()
        if used is None:
            return 0
        if self._before is None or used < self._before or now - self._began > WINDOW:
            self._began, self._before = now, used
        return used - self._before
