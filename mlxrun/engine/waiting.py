"""Who waits to be admitted, first come first served, and no more than the queue takes."""

from __future__ import annotations

from collections import deque

from ..core import Event, Finish
from .request import Row

MOST = 256  # requests beyond that are refused


class Waiting:
    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._rows: deque[Row] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        return len(self._rows) >= self.most

    @property
    def first(self) -> Row | None:
        return self._rows[0] if self._rows else None

    def add(self, row: Row) -> None:
        self._rows.append(row)

    def remove(self, row: Row) -> None:
        self._rows.remove(row)

    def take_all(self) -> list[Row]:
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def end_cancelled(self) -> None:
        for row in [row for row in self._rows if row.handle.cancelled]:
            self._rows.remove(row)
            row.handle.post(Event(finish=Finish.CANCELLED))
