"""The state of one sequence in one recurrent layer: what its mixer wrote last, and at which length.

A recurrence cannot be run backwards, so this memory goes back to where it stands, to the empty start,
or to a snapshot. It does not know what the arrays mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .base import LayerCache


@dataclass(frozen=True, slots=True)
class RecurrentState:
    arrays: tuple[mx.array, ...] | None
    length: int


class Recurrent(LayerCache):
    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = RecurrentState(None, 0)

    def read(self) -> tuple[mx.array, ...] | None:
        """What was written last; None at the start of a sequence."""
        return self._state.arrays

    def write(self, length: int, *state: mx.array) -> None:
        """The state after `length` tokens of the sequence."""
        self._state = RecurrentState(state, length)

    def reusable(self, length: int) -> int:
        return self._state.length if self._state.length <= length else 0

    def rewind(self, length: int) -> bool:
        if length == 0:
            self._state = RecurrentState(None, 0)
        return length == self._state.length

    def snapshot(self) -> RecurrentState:
        return self._state

    def restore(self, state: RecurrentState) -> None:
        self._state = state

    def arrays(self) -> list[mx.array]:
        return list(self._state.arrays or ())
