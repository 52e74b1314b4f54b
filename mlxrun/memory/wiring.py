"""What of a Mac's memory is kept from being paged out for the GPU: nothing, the weights, or all that is recommended.

MLX wires whatever it holds when the limit is raised, in no order, and then whatever comes until the limit is reached.
So the limit is set when the weights are there and nothing else is, to what is held then. Wiring everything is what made
whole machines panic (mlx issue 3186): the usual policy leaves what grows alone.
  off      makes no call at all
  own      weights that lie in memory of this process's own; pages of mapped files stay the system's, to drop and reread
  weights  all weights, mapped or not. llama.cpp does so too, and buffers that are not wired must be made resident by
           the driver for every command
  max      all that Metal recommends
Several models of one process want their weights wired together, and MLX has one limit for all of them.
Where there is no Metal nothing is ever called. Never run on a Mac, so which of `own` and `weights` is better nobody
measured.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import mlx.core as mx

from .. import gpu
from .shared_limit import SharedLimit

Policy = Literal["off", "own", "weights", "max"]
POLICIES: tuple[str, ...] = get_args(Policy)
UNWIRED_SHARE = 0.9  # of what Metal recommends, the most that the weights may take
FIRST = 15  # the macOS that has residency sets; on an older one MLX takes the call and does nothing


@dataclass(frozen=True, slots=True)
class Wired:
    bytes: int | None = None  # that the system may not page out
    why_not: str | None = None  # or not as many as was meant
    failed: bool = False  # somebody wanted it, and this machine is one for it


_limits: WeakKeyDictionary[Any, SharedLimit] = WeakKeyDictionary()  # by whose limit it is: MLX's, or a stand-in's


def limit_of(mlx: Any) -> SharedLimit:
    return _limits.setdefault(mlx, SharedLimit(lambda limit: mlx.set_wired_limit(limit)))


class Wiring:
    def __init__(self, policy: str = "weights", mlx: Any = mx, system: Callable[[], int | None] | None = None) -> None:
        """`system`: which macOS this is; None: nobody knows."""
        if policy not in POLICIES:
            raise ValueError(f"wiring must be {', '.join(POLICIES)}, not {policy!r}")
        self.policy, self._mlx, self._limit = policy, mlx, limit_of(mlx)
        self._system = system or macos

    def wire(self, weights: int, mapped: int = 0) -> Wired:
        """Once they are there: `weights` bytes that MLX holds, `mapped` of these in pages of files."""
        if self.policy == "off":
            return Wired(why_not="it is switched off")
        if not gpu.metal():
            return Wired(why_not=(gpu.why_not() or "the GPU is not Metal's").rstrip("."))
        most = gpu.count("max_recommended_working_set_size")
        wanted = self._wanted(weights, mapped, most)
        if most is None:
            return Wired(None, "MLX does not say how much may be wired", failed=True)
        if not wanted:
            return Wired(why_not="all weights are pages of mapped files, which are left to the system")
        if (self._system() or FIRST) < FIRST:
            return Wired(None, f"it takes macOS {FIRST} or later", failed=True)
        return self._set(wanted, most, weights)

    def _wanted(self, weights: int, mapped: int, most: int | None) -> int:
        if self.policy == "max":
            return most or 0
        own = max(0, weights - mapped) if self.policy == "own" else weights
        return min(own, int(UNWIRED_SHARE * (most or 0)))

    def _set(self, wanted: int, most: int, weights: int) -> Wired:
        try:
            total = self._limit.want(self, wanted, int(UNWIRED_SHARE * most))
            stands = self._mlx.set_wired_limit(total)  # there is no other way to ask
        except gpu.RAISED as error:
            return Wired(None, f"MLX refused it: {(str(error) or repr(error)).splitlines()[0]}", failed=True)
        if stands != total:
            return Wired(None, f"MLX was asked for {total} bytes and has {stands}", failed=True)
        if self.policy == "weights" and wanted < weights:
            why = f"the weights take {weights} bytes, and Metal recommends no more than {most} in all"
            return Wired(wanted, why, failed=True)
        return Wired(wanted)

    def release(self) -> None:
        """As it was before, once what runs has ended."""
        self._limit.drop(self, self._mlx.synchronize)


def macos() -> int | None:
    """The first number of its version; None: this is none, or it does not say."""
    first = platform.mac_ver()[0].split(".")[0]
    return int(first) if first.isdigit() else None
