"""Keys and a recurrent state of one layer that has both (attention and Mamba side by side).

Each part is asked as it is elsewhere; the pair goes only where both can go.
"""

from __future__ import annotations

import mlx.core as mx

from ..ops.span import Span
from .base import LayerCache
from .keys import Keys, KeysState
from .recurrent import Recurrent, RecurrentState


class Paired(LayerCache):
    __slots__ = ("_keys", "_state")

    def __init__(self) -> None:
        self._keys, self._state = Keys(), Recurrent()

    def append(self, *rows: mx.array) -> Span:
        return self._keys.append(*rows)

    def read(self) -> tuple[mx.array, ...] | None:
        return self._state.read()

    def write(self, length: int, *state: mx.array) -> None:
        self._state.write(length, *state)

    def reusable(self, length: int) -> int:
        return self._keys.reusable(self._state.reusable(length))

    def rewind(self, length: int) -> bool:
        if self.reusable(length) != length:
            return False
        return self._keys.rewind(length) and self._state.rewind(length)

    def snapshot(self) -> tuple[KeysState, RecurrentState]:
        return self._keys.snapshot(), self._state.snapshot()

    def restore(self, state: tuple[KeysState, RecurrentState]) -> None:
        keys, recurrent = state
        self._keys.restore(keys)
        self._state.restore(recurrent)

    def arrays(self) -> list[mx.array]:
        return [*self._keys.arrays(), *self._state.arrays()]
