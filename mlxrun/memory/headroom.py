"""Keeps this process within its plan while it runs: measures what it takes, and says how much must go.

What is to be done, mildest first: drop buffers that nobody uses, forget what ended requests left, refuse new work, end
the youngest request. The engine does these things; here is when. Weights that are mapped do not count: the system may
drop their pages and read them again. Knows no request and no model.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import mlx.core as mx

from .. import gpu
from .mac_memory import SwapWatch, system_lag
from .machine import available_bytes, private_bytes
from .wiring import Policy

MIB = 2**20
FLOOR = 128 * MIB  # of the machine's memory, left to everybody else
LEAST_CACHE = 64 * MIB  # of freed buffers that MLX may keep for their next use
LARGE_BLOCK = MIB
M_MMAP_THRESHOLD = -3  # as malloc.h numbers it


class Pressure(IntEnum):
    NONE = 0
    CACHES = 1
    KEPT = 2
    REFUSE = 3
    END = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """What a plan grants, in bytes."""

    usable: int  # by this process, beside what it had before it loaded
    weights: int
    activations: int  # of one pass, at most
    mapped: int = 0  # of the weights; not this process's own
    wire: Policy = "weights"  # what of it a GPU's system shall not page out

    @property
    def cache_limit(self) -> int:
        """For MLX's freed buffers: a pass's worth, which the next pass takes again."""
        return max(LEAST_CACHE, min(self.activations, self.usable // 8))


class Headroom:
    def __init__(
        self,
        budget: Budget,
        before: int = 0,
        measure: Callable[[], int] | None = None,
        free: Callable[[], int] = available_bytes,
        swap: SwapWatch | None = None,
        lag: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`before`: what the process took before it loaded. `lag`: seconds that the system's numbers may be old."""
        self.budget = budget
        self._limit = before + budget.usable - budget.mapped
        self.taken_since: Callable[[], int] = lambda: 0  # bytes that other models of this process map since then
        self._measure = measure or footprint
        self._free = free
        self._swap = swap or SwapWatch()
        self._lag, self._clock = system_lag() if lag is None else lag, clock
        self._short_since: float | None = None

    @property
    def limit(self) -> int:
        """Of what this process takes, all its models together."""
        return self._limit - self.taken_since()

    def free(self) -> int:
        """Of the machine's memory; what the system had to move to its swap meanwhile is not free, whatever it says."""
        return max(0, self._free() - self._swap.grown())

    def over(self) -> int:
        """Bytes that must go; 0 or less: so many more may come."""
        found = max(self._measure() - self.limit, FLOOR - self.free())
        if found <= 0:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = self._clock()
        return found

    def begin_anew(self) -> None:
        """A request was ended; the next is ended only if it goes on."""
        self._swap.forgive()
        self._short_since = None

    @property
    def room(self) -> int:
        return max(0, -self.over())

    def relieve(self, forget: Callable[[int], None]) -> Pressure:
        """Do what harms nobody, and say what is left to do. `forget` drops kept sequences of at least so many bytes."""
        if self.over() <= 0:
            return Pressure.NONE
        give_back()
        if (over := self.over()) <= 0:
            return Pressure.CACHES
        forget(over)
        give_back()
        if (over := self.over()) <= 0:
            return Pressure.KEPT
        # within a pass's worth of the limit nobody need be ended yet
        waits = over <= self.budget.activations // 2 or self._may_be_old()
        return Pressure.REFUSE if waits else Pressure.END

    def _may_be_old(self) -> bool:
        """It is the system that is short, and what was given back just now may not be among what it says."""
        began = self._clock() if self._short_since is None else self._short_since
        return self._measure() <= self.limit and self._clock() - began < self._lag

    def reason(self) -> str:
        held, limit = self._measure(), self.limit
        if held > limit:
            return f"Memory is used up: {held / MIB:.0f} MiB of {limit / MIB:.0f} MiB are taken"
        if swapped := self._swap.grown():
            return f"Memory is used up: the system has just moved {swapped / MIB:.0f} MiB to its swap files"
        return f"Memory is used up: other programs have left {self.free() / MIB:.0f} MiB of it"


def footprint() -> int:
    """This process's own memory; on a card, or where the system does not say, what MLX holds."""
    private = private_bytes() if gpu.card() is None else None
    return mx.get_active_memory() + mx.get_cache_memory() if private is None else private


def give_back() -> None:
    """Freed memory goes back to the system: MLX's buffers, then the C library's."""
    mx.clear_cache()
    trim_heaps()


def trim_heaps() -> None:
    """What the C library keeps of freed memory, in heaps of every thread that asked for some; from any thread."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def let_large_blocks_go() -> None:
    """Before anything large is made. By itself the GNU C library learns to put blocks of up to 32 MiB into heaps, one
    for each thread, and the holes that they leave there no trim gives back: 8 MB and more for every load of a model."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "malloc_trim") else None
