"""Carries out what `memory.headroom` finds necessary, between passes. A model without a plan is only watched for files.

Sets how much MLX may keep of what is freed, and what is wired, and takes both back. Knows no text.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import mlx.core as mx

from ..loading.expert_offload import ExpertOffload
from ..loading.model import Runnable
from ..memory.headroom import Budget, Headroom, Pressure, give_back
from ..memory.wiring import Wiring

if TYPE_CHECKING:
    from .scheduler import Claims, Scheduler

FILES_SECONDS = 0.5  # between two looks at the files that weights are views of
SHORTAGE = "shorten the prompt, wait for others to end, or load with a smaller context"


class MemoryGuard:
    def __init__(self, model: Runnable) -> None:
        budget: Budget | None = getattr(model, "budget", None)
        self._model = model
        self._files = getattr(model, "mapped", ())
        self._offload: ExpertOffload | None = getattr(model, "offload", None)
        self._looked = 0.0
        self.headroom = None if budget is None else Headroom(budget, getattr(model, "before", 0))
        self.wiring = Wiring("off" if budget is None or not budget.wired else budget.wire)
        if budget is not None:
            mx.set_cache_limit(budget.cache_limit)
            self.wiring.wire(budget.weights)

    @property
    def mapped(self) -> int:
        """Bytes of weights that are views into files, without experts that are on disk only."""
        held = sum(file.size for file in self._files)
        return held if self._offload is None else held - self._offload.bytes + self._offload.held

    def room_for(self, tokens: int, rows: int, claims: Claims = ()) -> str | None:
        """None, or why a prompt of so many tokens cannot begin now; those that run will grow to what they claim."""
        if self.headroom is None:
            return None
        remembers = self._model.remembers  # type: ignore[attr-defined]  # it has a budget
        needed = remembers(tokens, rows) + self.headroom.budget.activations  # a pass of everybody's is always under way
        owed = sum(max(0, remembers(length, rows) - held) for length, held in claims)
        if needed + owed > self.headroom.room:
            mx.synchronize()  # what has ended may not be free yet
            give_back()
        room = max(0, self.headroom.room - owed)
        if needed <= room:
            return None
        return (
            f"A prompt of {tokens} tokens needs about {needed / 2**20:.0f} MiB, "
            f"and {room / 2**20:.0f} MiB of memory are left: {SHORTAGE}."
        )

    def look(self, scheduler: Scheduler) -> None:
        """Between two passes: what must go goes."""
        if self._files and time.perf_counter() - self._looked > FILES_SECONDS:
            self._looked = time.perf_counter()
            if not all(file.unchanged for file in self._files):
                scheduler.refuse_all("The model's file has changed on disk since it was loaded; load it again.")
                return
        if self.headroom is None or not scheduler.busy or self.headroom.over() <= 0:
            scheduler.full = None
            return
        mx.synchronize()  # what runs holds what it was given
        pressure = self.headroom.relieve(scheduler.forget)
        scheduler.full = f"{self.headroom.reason()}: {SHORTAGE}." if pressure >= Pressure.REFUSE else None
        if pressure is Pressure.END:
            scheduler.end_youngest(f"{self.headroom.reason()}, so the youngest request was ended.")
            give_back()


def give_back_all() -> None:
    """After a model is gone. Objects that refer to each other are found, and large frees wait for the device."""
    mx.synchronize()
    gc.collect()
    give_back()
