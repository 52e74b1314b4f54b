"""What drafts add to the time of a pass, by the rows that decode and the draft rows beside them.

What was not measured follows from what was. Times are handed in: there is no clock here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

from ..budget import Times

KNOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # draft rows that are told apart
FIRST_MOST = 3  # drafts in the first pass that has any, as an index of KNOTS
FIRST_GUESS = 0.35  # of a plain pass of few rows, that a draft row adds; measured on two cores
GROWING = 0.7  # of such a pass, what grows with its rows


class StepTimes:
    def __init__(self) -> None:
        self._extra: dict[int, dict[int, Times]] = {}  # by rows, by knot
        self._told: dict[int, list[float]] = {}  # by rows: `extras`, until something new is measured

    def saw(self, rows: int, drafts: int, extra: float) -> None:
        knot = KNOTS[bisect_right(KNOTS, drafts) - 1]
        self._extra.setdefault(rows, {}).setdefault(knot, Times()).add(extra * knot / drafts)
        self._told.clear()

    def most(self, rows: int) -> int:
        """Drafts that may be tried: one knot more than was measured."""
        measured = max(self._nearest(rows), default=0)
        return KNOTS[min(max(bisect_right(KNOTS, measured), FIRST_MOST), len(KNOTS) - 1)]

    def extras(self, rows: int, plain: float) -> list[float]:
        """What 0, 1, ... `most` draft rows add to a pass of `rows`, `plain` seconds without. More never take less."""
        known = self._nearest(rows)
        if not known:
            each = plain * min(FIRST_GUESS, GROWING / rows)
            return [drafts * each for drafts in range(self.most(rows) + 1)]
        if rows not in self._told:
            self._told[rows] = self._on_lines(rows, {knot: known[knot].usual for knot in sorted(known)})
        return self._told[rows]

    def _on_lines(self, rows: int, known: dict[int, float]) -> list[float]:
        known = {0: 0.0} | known
        places, values = list(known), list(accumulate(known.values(), max))
        last, end = places[-1], values[-1]
        return [
            end + end / last * (drafts - last) if drafts > last else between(places, values, drafts)
            for drafts in range(self.most(rows) + 1)
        ]

    def _nearest(self, rows: int) -> dict[int, Times]:
        if not self._extra:
            return {}
        return self._extra[min(self._extra, key=lambda other: abs(other - rows))]


def between(places: list[int], values: list[float], at: int) -> float:
    right = bisect_left(places, at)
    if places[right] == at:
        return values[right]
    share = (at - places[right - 1]) / (places[right] - places[right - 1])
    return values[right - 1] + share * (values[right] - values[right - 1])
