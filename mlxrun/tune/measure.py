"""Ours against MLX's, one operation at a time, inside of the whole step where it will run.

A step is run with everything as picked so far, and again with one operation changed to a cut of ours: chained as in
use, in turns, so that a machine that warms up slows both. First the standard cut everywhere, then the others. Between
two steps somebody else may compute: the chooser is then as it was. Not known: how it is on battery, or beside other
work.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

from ..ops.choose import OURS, ROWS, Chooser
from .picks import Pick, forms

Step = Callable[[int], None]  # so many new rows through the model, waited for
ROUNDS = 5  # each has both forms twice
BETTER = 0.99  # what is tried must take at most this part of the time: a tie stays with what was
WARM = (True, False)  # the first time compiles
TURNS = (True, False, False, True) * ROUNDS  # a steady drift hits both alike


@dataclass(frozen=True, slots=True)
class Timing:
    key: str
    cut: str  # of ours, that was tried
    took: float  # seconds of a step with it
    before: float  # and with what was the quickest before
    pick: Pick
    failed: str = ""  # what the device said instead of running it


@dataclass(frozen=True, slots=True)
class Order:
    cuts: tuple[str, ...] = OURS
    rows: tuple[int, ...] = ROWS


EVERY = Order()


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

    def run(self, rows: int, picked: Mapping[str, str]) -> float:
        before = self.chooser.policy, self.chooser.picks
        self.chooser.policy, self.chooser.picks = "auto", picked
        start = self.clock()
        try:
            self.step(rows)
        finally:
            self.chooser.policy, self.chooser.picks = before
            took = self.clock() - start
            self.spent += took
            self.last[rows] = took
        return took

    def asked(self, rows: int, picked: Mapping[str, str]) -> list[str]:
        """The keys of a step, in the order in which it asks for them."""
        self.chooser.asked = {}
        try:
            self.run(rows, picked)
            self.seen.update(self.chooser.asked)
            return list(self.chooser.asked)
        finally:
            self.chooser.asked = None


def tune(bench: Bench, known: Mapping[str, Pick], how: Order = EVERY) -> list[Timing]:
    """What could be measured in the bench's time; what could not stays as it was."""
    return [timing for timing in tuning(bench, known, how) if timing is not None]


def tuning(bench: Bench, known: Mapping[str, Pick], how: Order = EVERY) -> Iterator[Timing | None]:
    """The same, one step after the other: None after a step, a timing where a comparison ends."""
    picks = dict(known)
    for cut, rows in itertools.product(how.cuts, how.rows):
        fresh = [""]
        while fresh:  # what is picked may ask for more
            if not bench.time_for(rows):
                return
            asked = bench.asked(rows, forms(picks))
            fresh = [key for key in asked if cut not in picks.get(key, Pick()).tried]
            yield None
            for key in fresh:
                timing = yield from compare_cuts(bench, rows, picks, key, cut)
                if timing is None:
                    return
                picks[key] = timing.pick
                yield timing


def compare_cuts(
    bench: Bench, rows: int, picks: Mapping[str, Pick], key: str, cut: str
) -> Generator[None, None, Timing | None]:
    """Returns None where there was no time for it."""
    before, as_picked = picks.get(key, Pick()), forms(picks)
    spent: dict[bool, list[float]] = {True: [], False: []}
    for number, other in enumerate(WARM + TURNS):
        if not bench.time_for(rows):
            return None
        try:
            took = bench.run(rows, {**as_picked, key: cut} if other else as_picked)
        except (RuntimeError, ValueError) as problem:  # the device refused the kernel
            return failed(key, cut, before, str(problem))
        if (key, cut) in bench.chooser.refused:  # the step went on with MLX's form
            return failed(key, cut, before, bench.chooser.refused[key, cut])
        if number >= len(WARM):
            spent[other].append(took)
        yield None
    new, old = statistics.median(spent[True]), statistics.median(spent[False])
    return Timing(key, cut, new, old, Pick(cut if new <= BETTER * old else before.form, (*before.tried, cut)))


def failed(key: str, cut: str, before: Pick, why: str) -> Timing:
    return Timing(key, cut, float("inf"), 0.0, Pick(before.form, (*before.tried, cut)), why)
