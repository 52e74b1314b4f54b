"""Who waits to be admitted: those somebody looks on for, and batch rows that have waited long, before the others.

Of a class, first come first served; who had begun and had to give his memory back comes before all of them. Also
here is how long the queue makes people wait, by how quickly rows have ended lately.
"""

from __future__ import annotations

from collections import deque

from ..core import Event
from .request import Row

MOST = 1024  # rows; requests beyond that are refused, where the settings do not say
ENDS = 32  # the last so many tell how quickly rows end
SOON, LATE = 1.0, 60.0  # seconds that a refused one is told to stay away, at least and at most


class Waiting:
    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._rows: list[Row] = []
        self._ends: deque[float] = deque(maxlen=ENDS)

    def __len__(self) -> int:
        return len(self._rows)

    def has_room_for(self, rows: int) -> bool:
        return len(self._rows) + rows <= self.most

    def add(self, row: Row) -> None:
        self._rows.append(row)

    def add_first(self, row: Row) -> None:
        """Before all of its class."""
        self._rows.insert(0, row)

    def remove(self, row: Row) -> None:
        self._rows.remove(row)

    def in_order(self, now: float) -> list[Row]:
        urgent = [row.urgent(now) for row in self._rows]
        if all(urgent):
            return self._rows[:]
        first = [row for row, at_once in zip(self._rows, urgent, strict=True) if at_once]
        return first + [row for row, at_once in zip(self._rows, urgent, strict=True) if not at_once]

    def over(self, now: float) -> list[tuple[Row, Event]]:
        """Those that nobody wants any more or whose time is up."""
        return [(row, event) for row in self._rows if (event := row.over(now)) is not None]

    def take_all(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    def ended(self, now: float) -> None:
        """A row that ran did so, which makes room for another."""
        self._ends.append(now)

    def retry_after(self, places: int) -> float | None:
        """Seconds until so many rows have ended, as quickly as the last ones did; None: not known."""
        each = self.seconds_between_ends
        return None if each is None else min(LATE, max(SOON, places * each))

    @property
    def seconds_between_ends(self) -> float | None:
        return None if len(self._ends) < 2 else (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
