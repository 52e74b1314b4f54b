"""Keys and values of one sequence in one layer: all of them, or the last stretch.

Arrays grow in steps and are written in place while nothing else holds them. `keep` bounds how far
back a query may ever look; some slack beyond it makes small rewinds possible and moves rare.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx

from ..ops.span import Span
from .base import LayerCache

STEP = 256  # tokens by which a buffer grows
SLACK = 128  # tokens kept beyond the window


@dataclass(frozen=True, slots=True)
class KeysState:
    arrays: tuple[mx.array, ...]
    first: int
    length: int


class Keys(LayerCache):
    """Buffers (1, G, capacity, D): `keep` None remembers everything."""

    __slots__ = ("_buffers", "_first", "_keep", "_length")

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._buffers: tuple[mx.array, ...] = ()
        self._first = 0  # position of the first key in the buffers
        self._length = 0  # tokens seen

    def append(self, *rows: mx.array) -> Span:
        """rows: each (1, G, L, D), the newest tokens. All that may be looked at, newest included."""
        added = rows[0].shape[2]
        self._reserve(rows, added)
        used = self._length - self._first
        for buffer, new in zip(self._buffers, rows, strict=True):
            buffer[:, :, used : used + added] = new
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

    @property
    def _capacity(self) -> int:
        return self._buffers[0].shape[2] if self._buffers else 0

    def _view(self) -> tuple[mx.array, ...]:
        used = self._length - self._first
        return tuple(b[:, :, :used] for b in self._buffers)

    def _reachable(self, length: int) -> bool:
        """Every key that a query at `length` may see must still be here."""
        if length == 0 or length == self._length:
            return True
        oldest = 0 if self._keep is None else max(0, length - self._keep + 1)
        return self._first <= oldest and self._first < length < self._length

    def _reserve(self, rows: tuple[mx.array, ...], added: int) -> None:
        """Make room for `added` rows like these, dropping what no query can see."""
        used = self._length - self._first
        drop = 0 if self._keep is None else used - (self._keep - 1) - SLACK
        if drop >= SLACK:
            self._first += drop
            used -= drop
        else:
            drop = 0
        if not drop and used + added <= self._capacity:
            return
        grown = rounded(used + added)
        buffers = []
        for index, new in enumerate(rows):
            fresh = mx.zeros((1, new.shape[1], grown, new.shape[3]), new.dtype)
            if used:
                fresh[:, :, :used] = self._buffers[index][:, :, drop : drop + used]
            buffers.append(fresh)
        self._buffers = tuple(buffers)


@lru_cache(maxsize=4096)
def capacity(tokens: int, keep: int | None, chunk: int) -> int:
    """The most rows that the buffers have while so many tokens are appended in chunks: how `_reserve` grows them."""
    if keep is None:
        return rounded(tokens)
    most = held = used = done = 0
    while done < tokens:
        added = min(chunk, tokens - done)
        drop = used - (keep - 1) - SLACK
        if drop >= SLACK:
            used -= drop
            held = rounded(used + added)
        elif used + added > held:
            held = rounded(used + added)
        most = max(most, held)
        if done > 4 * (keep + chunk + SLACK):  # it goes round from here on
            break
        used, done = used + added, done + added
    return most


def rounded(rows: int) -> int:
    return -(-rows // STEP) * STEP
