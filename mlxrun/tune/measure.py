"""Ours against MLX's, one operation at a time, inside of the whole step where it will run.

A step is run with everything as picked so far, and again with one more operation changed to ours: chained as in
use, in turns, so that a machine that warms up slows both. Between two steps somebody else may compute: the chooser
is then as it was. Not known: how it is on battery, or beside other work.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

from ..ops.choose import ROWS, Chooser

Step = Callable[[int], None]  # so many new rows through the model, waited for
ROUNDS = 5  # each has both forms twice
BETTER = 0.99  # ours must take at most this part of the time: a tie stays with MLX
WARM = (True, False)  # the first time compiles
TURNS = (True, False, False, True) * ROUNDS  # a steady drift hits both alike


@dataclass(frozen=True, slots=True)
class Timing:
    key: str
    ours: float  # seconds of a step
    theirs: float
    quicker: bool
    failed: str = ""  # what the device said instead of running it


@dataclass(slots=True)
class Bench:
    """Steps with picks that nobody else sees, and the time that they took together."""

    step: Step
    chooser: Chooser
    clock: Callable[[], float] = time.perf_counter
    seconds: float = 5.0
    spent: float = 0.0
    last: dict[int, float] = field(default_factory=dict)  # seconds of the last step, by its rows
    seen: set[str] = field(default_factory=set)  # keys that steps asked for

    def time_for(self, rows: int) -> bool:
        """Whether a step of so many rows should end in time; of rows that are new, as long as the longest so far."""
        return self.spent + self.last.get(rows, max(self.last.values(), default=0.0)) < self.seconds

    def run(self, rows: int, picked: Mapping[str, bool]) -> float:
        before = self.chooser.policy, self.chooser.quicker
        self.chooser.policy, self.chooser.quicker = "auto", picked
        start = self.clock()
        try:
            self.step(rows)
        finally:
            self.chooser.policy, self.chooser.quicker = before
            took = self.clock() - start
            self.spent += took
            self.last[rows] = took
        return took

    def asked(self, rows: int, picked: Mapping[str, bool]) -> list[str]:
        """The keys of a step, in the order in which it asks for them."""
        self.chooser.asked = {}
        try:
            self.run(rows, picked)
            self.seen.update(self.chooser.asked)
            return list(self.chooser.asked)
        finally:
            self.chooser.asked = None


def tune(bench: Bench, rows: tuple[int, ...] = ROWS) -> list[Timing]:
    """What could be measured in the bench's time; what could not stays with MLX."""
    return [timing for timing in tuning(bench, rows) if timing is not None]


def tuning(bench: Bench, rows: tuple[int, ...] = ROWS) -> Iterator[Timing | None]:
    """The same, one step after the other: None after a step, a timing where a comparison ends."""
    picked = dict(bench.chooser.quicker)
    for count in rows:
        fresh = [""]
        while fresh:  # what is picked may ask for more
            if not bench.time_for(count):
                return
            fresh = [key for key in bench.asked(count, picked) if key not in picked]
            yield None
            for key in fresh:
                timing = yield from compared(bench, count, picked, key)
                if timing is None:
                    return
                picked[key] = timing.quicker
                yield timing


def compared(bench: Bench, rows: int, picked: Mapping[str, bool], key: str) -> Generator[None, None, Timing | None]:
    """Returns None where there was no time for it."""
    spent: dict[bool, list[float]] = {True: [], False: []}
    for number, ours in enumerate(WARM + TURNS):
        if not bench.time_for(rows):
            return None
        try:
            took = bench.run(rows, {**picked, key: ours})
        except (RuntimeError, ValueError) as problem:  # the device refused the kernel
            return Timing(key, float("inf"), 0.0, False, str(problem))
        if number >= len(WARM):
            spent[ours].append(took)
        yield None
    ours_took, theirs_took = statistics.median(spent[True]), statistics.median(spent[False])
    return Timing(key, ours_took, theirs_took, ours_took <= BETTER * theirs_took)
