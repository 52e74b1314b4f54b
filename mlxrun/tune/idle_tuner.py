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

from . import picks
from .measure import EVERY, Bench, Order, tuning

if TYPE_CHECKING:
    from ..loading.model import Runnable

SECONDS = 4.0  # that its steps may take together; the last one and what it compiles may go beyond, not past five
CONTEXT = 1024  # tokens; no step has so many


@dataclass(frozen=True, slots=True)
class Table:
    """Where what was measured on this machine is kept."""

    path: Path
    machine: picks.TunedMachine

    def known(self) -> dict[str, picks.Pick]:
        return picks.load(self.path, self.machine)

    def add(self, found: dict[str, picks.Pick]) -> None:
        picks.save(self.path, self.machine, found)


def steps_of(model: Runnable) -> Callable[[int], None]:
    """So many new rows of a new sequence through the model to the best token of each, and waited for."""

    def step(rows: int) -> None:
        memory = model.new_sequence(CONTEXT)
        hidden = model(mx.zeros((rows,), mx.int32), [(memory, rows)])
        logits, best = model.logits(hidden), model.best(hidden)  # asked in this order: the head's product comes first
        mx.eval(mx.argmax(logits, axis=-1) if best is None else best, memory.arrays())

    return step


def slices(bench: Bench, table: Table, how: Order = EVERY) -> Generator[None, None, None]:
    """Each a step; what was found is used and written down at the end, or when it is closed."""
    keys, known = bench.asked(how.rows[0], bench.chooser.picks), table.known()
    yield
    if known.keys() >= set(keys):
        return
    found: dict[str, picks.Pick] = {}
    try:
        for timing in tuning(bench, known, how):
            if timing is not None:
                found[timing.key] = timing.pick
            yield
        found = {**dict.fromkeys(bench.seen - known.keys(), picks.Pick()), **found}
    finally:
        bench.chooser.picks = {**bench.chooser.picks, **picks.forms(found)}
        if found:
            table.add(found)
