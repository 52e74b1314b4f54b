"""Tuning that begins by itself: one step of a model at a time, for an engine that has nothing else to do.

Only where nothing was ever measured for this model's decode steps on this machine. What there was no time for is
written down too, so that it is not begun again at every load; `mlxrun tune` measures that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx

from ..ops.choose import ROWS
from . import picks
from .measure import Bench, tuning

if TYPE_CHECKING:
    from ..engine.model import Runnable

SECONDS = 4.0  # that its steps may take together; the last one and what it compiles may go beyond, not past five
CONTEXT = 1024  # tokens; no step has so many


@dataclass(frozen=True, slots=True)
class Table:
    """Where what was measured on this machine is kept."""

    path: Path
    machine: picks.Machine

    def lacks(self, keys: list[str]) -> bool:
        return not set(keys) <= picks.looked_at(self.path, self.machine)

    def add(self, found: dict[str, bool | None]) -> None:
        picks.save(self.path, self.machine, found)


def steps_of(model: Runnable) -> Callable[[int], None]:
    """So many new rows of a new sequence through the model to the best token of each, and waited for."""

    def step(rows: int) -> None:
        memory = model.new_sequence(CONTEXT)
        hidden = model(mx.zeros((rows,), mx.int32), [(memory, rows)])
        logits, best = model.logits(hidden), model.best(hidden)  # asked in this order: the head's product comes first
        mx.eval(mx.argmax(logits, axis=-1) if best is None else best, memory.arrays())

    return step


def slices(bench: Bench, table: Table, rows: tuple[int, ...] = ROWS) -> Generator[None, None, None]:
    """Each a step; what was found is used and written down at the end, or when it is closed."""
    keys = bench.asked(rows[0], bench.chooser.quicker)
    yield
    if not table.lacks(keys):
        return
    found: dict[str, bool | None] = {}
    try:
        for timing in tuning(bench, rows):
            if timing is not None:
                found[timing.key] = timing.quicker
            yield
        found = {**dict.fromkeys(bench.seen - set(bench.chooser.quicker)), **found}
    finally:
        known = {key: quicker for key, quicker in found.items() if quicker is not None}
        bench.chooser.quicker = {**bench.chooser.quicker, **known}
        if found:
            table.add(found)
