"""Carries out what `memory.headroom` finds necessary, between passes. A model without a plan is left alone.

Sets how much MLX may keep of what is freed, and what is wired, and takes both back. Knows no text.
"""

from __future__ import annotations

import gc
import time
from functools import lru_cache
from typing import TYPE_CHECKING

import mlx.core as mx

from ..loading.model import Runnable
from ..memory.headroom import Budget, Headroom, Pressure, give_back
from ..memory.shared_limit import SharedLimit
from ..memory.wiring import Wiring
from ..ops.native import release

if TYPE_CHECKING:
    from .admission import Claims
    from .scheduler import Scheduler

LOGITS = 2 * 4  # bytes of a token's logits and of what they become when one is drawn, for each row
PASSES = 2  # while there is room for what so many compute,
LOOK_AGAIN = 0.1  # seconds may pass before the next look
BUFFER_LIMIT = SharedLimit(lambda limit: mx.set_cache_limit(limit))  # of freed buffers that MLX keeps
MAPPED = SharedLimit(lambda total: 0)  # weights of all models that are pages of files; a sum, and nothing is set
BUFFERS = 1.1  # of the weights' bytes, what their buffers take at most: whole pages, and what lies between them
SHORTAGE = "shorten the prompt, wait for others to end, or load with a smaller context"


class MemoryGuard:
    def __init__(self, model: Runnable) -> None:
        held = model.holdings
        self._model, self._holdings = model, held
        self._look_again = 0.0
        self._planned = lru_cache(maxsize=4096)(lambda tokens, rows: model.planned_bytes(tokens, rows))
        self.headroom = None if held.budget is None else Headroom(held.budget, held.before)
        self.wiring = Wiring("off" if held.budget is None else held.budget.wire)
        self.used = held.used.with_wired(None, "nobody planned for this model")
        if held.budget is not None:
            BUFFER_LIMIT.want(self, held.budget.cache_limit)
            self._wire(held.budget)
        if self.headroom is not None:
            then = MAPPED.want(self, self.headroom.budget.mapped)
            self.headroom.taken_since = lambda: MAPPED.total - then

    def _wire(self, budget: Budget) -> None:
        """All that MLX holds by now is weights, once it has let go of what they were made with, or another model's."""
        give_back()
        held = min(mx.get_active_memory(), int(BUFFERS * budget.weights))
        wired = self.wiring.wire(max(budget.weights, held), budget.mapped)
        self.used = self.used.with_wired(wired.bytes, wired.why_not, failed=wired.failed)

    def release(self) -> None:
        """The model is gone: what was set for it is not any more."""
        self.wiring.release()
        BUFFER_LIMIT.drop(self)
        MAPPED.drop(self)

    @property
    def mapped(self) -> int:
        """Bytes of weights that MLX does not count, because they are views into files."""
        return self._holdings.mapped

    def room_for(self, tokens: int, rows: int, claims: Claims = ()) -> str | None:
        """None, or why a prompt of so many tokens cannot begin now; those that run will grow to what they claim."""
        if self.headroom is None:
            return None
        planned, logits = self._planned, len(claims) * LOGITS * self._model.vocab
        needed = planned(tokens, rows) + self.headroom.budget.activations + logits  # a pass of everybody's is under way
        owed = sum(max(0, planned(length, rows) - held) for length, held in claims)
        if needed + owed > self.headroom.room:
            mx.synchronize()  # what has ended may not be free yet
            self._model.give_back()
            give_back()
        room = max(0, self.headroom.room - owed)
        if needed <= room:
            return None
        return (
            f"A prompt of {tokens} tokens needs about {needed / 2**20:.0f} MiB, "
            f"and {room / 2**20:.0f} MiB of memory are left: {SHORTAGE}."
        )

    def never_room_for(self, tokens: int, rows: int) -> str | None:
        """None, or why a prompt of so many tokens could not even begin if nothing else ran."""
        if self.headroom is None:
            return None
        budget = self.headroom.budget
        needed = self._model.planned_bytes(tokens, rows) + budget.activations
        most = max(0, budget.usable - budget.weights)
        if needed <= most:
            return None
        return (
            f"A prompt of {tokens} tokens needs about {needed / 2**20:.0f} MiB, and {most / 2**20:.0f} MiB of memory "
            "are all that there is beside the model: shorten the prompt, or load with a smaller context."
        )

    def look(self, scheduler: Scheduler) -> None:
        """Between two passes: what must go goes. To ask the system takes longer than to plan a pass."""
        now = time.monotonic()
        if self.headroom is None or not scheduler.busy or now < self._look_again:
            return
        over = self.headroom.over()
        if over <= 0:
            enough = over < -PASSES * self.headroom.budget.activations
            self._look_again = now + LOOK_AGAIN if enough else 0.0
            scheduler.refuse_new(None)
            return
        mx.synchronize()  # what runs holds what it was given
        pressure = self.headroom.relieve(scheduler.forget)
        scheduler.refuse_new(f"{self.headroom.reason()}: {SHORTAGE}." if pressure >= Pressure.REFUSE else None)
        if pressure is Pressure.END:
            scheduler.make_room(f"{self.headroom.reason()}, so the request was ended.")
            self.headroom.begin_anew()
            give_back()


def give_back_all() -> None:
    """After a model is gone, or in a silence. Objects that refer to each other are found, and large frees wait for the
    device. It takes some 0.1 s, and 0.3 s where a gigabyte goes."""
    release()
    mx.synchronize()
    gc.collect()
    give_back()
