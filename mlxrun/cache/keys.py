"""Keys and values of one sequence in one layer: all of them, or the last stretch.

Arrays grow in steps and are written in place while nothing else holds them. `keep` bounds how far
back a query may ever look; some slack beyond it makes small rewinds possible and moves rare.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf

import mlx.core as mx

from ..ops.device import Device
from ..ops.span import Span, Writing, write_on
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

    __slots__ = ("_buffers", "_first", "_keep", "_length", "_shared", "_write", "_writing")

    def __init__(self, device: Device, keep: int | None = None) -> None:
        self._write = write_on(device)
        self._keep = keep
        self._buffers: tuple[mx.array, ...] = ()
        self._first = 0  # position of the first key in the buffers
        self._length = 0  # tokens seen
        self._shared: float = 0  # rows of the buffers before this one may be seen by somebody else
        self._writing: Writing | None = None  # what still changes the buffers

    def append(self, *rows: mx.array, of: int = 0) -> Span:
        """rows: each (sequences, G, L, D), the newest tokens; those of one sequence are ours.

        All that may be looked at, newest included.
        """
        added = rows[0].shape[2]
        self._settle()
        self._reserve(rows, added, self._capacity)
        used = self._length - self._first
        self._buffers = self._write(self._buffers, rows, used, of)
        self._shared = 0
        self._length += added
        return Span(self._buffers, self._first, used + added)

    def lend(self, writing: Writing) -> tuple[tuple[mx.array, ...], Writing | None]:
        """The buffers, with a place for the next token after all others; `writing` is going to fill it where it lies.

        And who must have been there before. There must be keys already.
        """
        used = self._length - self._first
        if used >= self._capacity or used < self._shared:
            self._settle()
            self._reserve(self._buffers, 1, 0)
            self._shared = 0
        before, self._writing = self._writing, writing
        self._length += 1
        return self._buffers, before

    def reusable(self, length: int) -> int:
        return length if self._reachable(length) else 0

    def rewind(self, length: int) -> bool:
        if not self._reachable(length):
            return False
        # a pass that is not computed yet may still look at what is forgotten
        self._shared = max(self._shared, self._length - self._first) if length < self._length else self._shared
        if length == 0:
            self._buffers, self._first, self._shared, self._writing = (), 0, 0, None
        self._length = length
        return True

    def snapshot(self) -> KeysState:
        self._settle()
        self._shared = max(self._shared, self._length - self._first)
        return KeysState(self._view(), self._first, self._length)

    def restore(self, state: KeysState) -> None:
        # new objects: writing into a buffer in place must not reach the saved one
        self._buffers = tuple(array[:] for array in state.arrays)
        self._first, self._length = state.first, state.length
        self._shared, self._writing = inf, None

    def arrays(self) -> list[mx.array]:
        return list(self._buffers) if self._writing is None else [*self._buffers, self._writing.done]

    @property
    def _capacity(self) -> int:
        return self._buffers[0].shape[2] if self._buffers else 0

    def _settle(self) -> None:
        """Make the buffers depend on what is being written to them."""
        if self._writing is not None:
            self._buffers = tuple(mx.depends(list(self._buffers), [self._writing.done]))
            self._writing = None

    def _view(self) -> tuple[mx.array, ...]:
        used = self._length - self._first
        return tuple(b[:, :, :used] for b in self._buffers)

    def _reachable(self, length: int) -> bool:
        """Every key that a query at `length` may see must still be here."""
        if length == 0 or length == self._length:
            return True
        oldest = 0 if self._keep is None else max(0, length - self._keep + 1)
        return self._first <= oldest and self._first < length < self._length

    def _reserve(self, rows: tuple[mx.array, ...], added: int, capacity: int) -> None:
        """Make room for `added` rows like these where `capacity` is too little, dropping what no query can see."""
        used = self._length - self._first
        drop = 0 if self._keep is None else used - (self._keep - 1) - SLACK
        if drop >= SLACK:
            self._first += drop
            used -= drop
        else:
            drop = 0
        if not drop and used + added <= capacity:
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
