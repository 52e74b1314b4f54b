"""Ours against MLX's, one operation at a time, inside of the whole step where it will run.

A step is run with everything as picked so far, and again with one more operation changed to ours: chained as in
use, in turns, so that a machine that warms up slows both. Not known: how it is on battery, or beside other work.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..ops.choose import ROWS, Chooser

Step = Callable[[int], None]  # so many new rows through the model, waited for
ROUNDS = 5  # each has both forms twice
BETTER = 0.99  # ours must take at most this part of the time: a tie stays with MLX


@dataclass(frozen=True, slots=True)
class Timing:
    key: str
    ours: float  # seconds of a step
    theirs: float
    quicker: bool
    failed: str = ""  # what the device said instead of running it


def tune(
    step: Step,
    chooser: Chooser,
    *,
    seconds: float = 5.0,
    rows: tuple[int, ...] = ROWS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """What could be measured in the time given; what could not stays with MLX. Leaves the chooser as it was."""
    before = chooser.policy, chooser.quicker
    end, timings = clock() + seconds, list[Timing]()
    picked = dict(before[1])
    chooser.policy = "auto"
    try:
        for count in rows:
            for key in asked(step, chooser, picked, count):
                if key in picked:
                    continue
                if clock() >= end:
                    return timings
                timing = compare(partial(step, count), chooser, picked, key, clock)
                picked[key] = timing.quicker
                timings.append(timing)
    finally:
        chooser.policy, chooser.quicker = before
    return timings


def asked(step: Step, chooser: Chooser, picked: dict[str, bool], rows: int) -> list[str]:
    """The keys of a step, in the order in which it asks for them."""
    chooser.quicker, chooser.asked = picked, {}
    try:
        step(rows)
        return list(chooser.asked)
    finally:
        chooser.asked = None


def compare(
    step: Callable[[], None], chooser: Chooser, picked: dict[str, bool], key: str, clock: Callable[[], float]
) -> Timing:
    forms = {True: {**picked, key: True}, False: {**picked, key: False}}
    spent: dict[bool, list[float]] = {True: [], False: []}

    def timed(ours: bool) -> float:
        chooser.quicker = forms[ours]
        start = clock()
        step()
        return clock() - start

    try:
        for ours in (True, False):
            timed(ours)  # the first time compiles
        for number in range(2 * ROUNDS):
            ours = number % 4 in (0, 3)  # ours, theirs, theirs, ours: a steady drift hits both alike
            for form in (ours, not ours):
                spent[form].append(timed(form))
    except (RuntimeError, ValueError) as problem:  # the device refused the kernel
        return Timing(key, float("inf"), 0.0, False, str(problem))
    ours_took, theirs_took = statistics.median(spent[True]), statistics.median(spent[False])
    return Timing(key, ours_took, theirs_took, ours_took <= BETTER * theirs_took)
