"""Keys (and whatever goes with them) of one sequence, as attention reads them, where each sequence has its own."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Span:
    buffers: tuple[mx.array, ...]  # each (1, G, capacity, D); what lies behind `count` is not of this span
    first: int  # the position of the first key
    count: int

    @classmethod
    def of(cls, rows: tuple[mx.array, ...], first: int) -> Span:
        return cls(rows, first, rows[0].shape[2])

    @property
    def arrays(self) -> tuple[mx.array, ...]:  # each (1, G, S, D)
        return tuple(b if b.shape[2] == self.count else b[:, :, : self.count] for b in self.buffers)

    @property
    def positions(self) -> range:
        return range(self.first, self.first + self.count)
