"""Keys (and whatever goes with them) of one sequence, as attention reads them."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Span:
    arrays: tuple[mx.array, ...]  # each (1, G, S, D)
    first: int  # the position of the first key

    @property
    def positions(self) -> range:
        return range(self.first, self.first + self.arrays[0].shape[2])
