"""Keys and values of one sequence in one layer: all of them, or the last stretch.

Arrays grow in steps and are written in place while nothing else holds them. `keep` bounds how far
back a query may ever look; some slack beyond it makes small rewinds possible and moves rare.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from ..ops.span import Span, write

STEP = 256  # tokens by which a buffer grows
SLACK = 128  # tokens kept beyond the window


@dataclass(frozen=True, slots=True)
class KeysState:
    arrays: tuple[mx.array, ...]
    first: int
    length: int


class Keys:
    """Buffers (1, G, capacity, D): `keep` None remembers everything."""

    __slots__ = ("_buffers", "_first", "_keep", "_length")

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._buffers: tuple[mx.array, ...] = ()
        self._first = 0  # position of the first key in the buffers
        self._length = 0  # tokens seen

    @property
    def bytes(self) -> int:
        return sum(b.nbytes for b in self._buffers)

    def append(self, *rows: mx.array, of: int = 0) -> Span:
        """rows: each (sequences, G, L, D), the newest tokens; those of one sequence are ours.

        All that may be looked at, newest included.
        """
        added = rows[0].shape[2]
        used = self._length - self._first
        self._reserve(rows, used, added)
        used = self._length - self._first
        self._buffers = write(self._buffers, rows, used, of)
        self._length += added
        return Span(self._buffers, self._first, used + added)

    def reusable(self, length: int) -> int:
        return length if self._reachable(length) else 0

    def rewind(self, length: int) -> bool:
        if not self._reachable(length):
            return False
        if length == 0:
            self._buffers, self._first = (), 0
        self._length = length
        return True

    def snapshot(self) -> KeysState:
        return KeysState(self._view(), self._first, self._length)

    def restore(self, state: KeysState) -> None:
        # new objects: writing into a buffer in place must not reach the saved one
        self._buffers = tuple(array[:] for array in state.arrays)
        self._first, self._length = state.first, state.length

    def arrays(self) -> list[mx.array]:
        return list(self._buffers)

    def _view(self) -> tuple[mx.array, ...]:
        used = self._length - self._first
        return tuple(b[:, :, :used] for b in self._buffers)

    def _reachable(self, length: int) -> bool:
        """Every key that a query at `length` may see must still be here."""
        if length == 0 or length == self._length:
            return True
        oldest = 0 if self._keep is None else max(0, length - self._keep + 1)
        return self._first <= oldest and self._first < length < self._length

    def _reserve(self, rows: tuple[mx.array, ...], used: int, added: int) -> None:
        """Make room for `added` rows after `used`, dropping what no query can see any more."""
        drop = 0 if self._keep is None else used - (self._keep - 1) - SLACK
        if drop >= SLACK:
            self._first += drop
            used -= drop
        else:
            drop = 0
        capacity = self._buffers[0].shape[2] if self._buffers else 0
        if not drop and used + added <= capacity:
            return
        grown = -(-(used + added) // STEP) * STEP
        buffers = []
        for index, new in enumerate(rows):
            fresh = mx.zeros((1, new.shape[1], grown, new.shape[3]), new.dtype)
            if used:
                fresh[:, :, :used] = self._buffers[index][:, :, drop : drop + used]
            buffers.append(fresh)
        self._buffers = tuple(buffers)
