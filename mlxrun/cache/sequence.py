"""What one sequence remembers: one memory for each layer that has one.

Which kind a layer gets is `kinds`' business. The questions about a whole sequence (how far can it be taken back, how
big is it) are the same questions asked of every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from ..contracts import HeardWindow
from ..ops.adapters import Adapter
from ..spec import Decoder
from .base import LayerCache, agreed
from .kinds import memory_for


class SequenceCache:
    store = None
    points: Sequence[int] = ()
    adapter: Adapter | None = None
    heard: HeardWindow | None = None

    def __init__(self, spec: Decoder, context: int | None = None) -> None:
        self.length = 0
        self.context = context or spec.context
        self.layers: Sequence[LayerCache | None] = [memory_for(layer) for layer in spec.layers]
        self._spec = spec
        self._owned = [memory for memory in self.layers if memory is not None]

    @property
    def bytes(self) -> int:
        return sum(memory.bytes for memory in self._owned)

    def reusable(self, length: int) -> int:
        """The longest prefix of at most `length` tokens that every layer can go back to at once."""
        return agreed(length, self._owned)

    def rewind(self, length: int) -> bool:
        if length > self.length or self.reusable(length) != length:
            return False
        for memory in self._owned:
            memory.rewind(length)
        self.length = length
        return True

    def fork(self) -> SequenceCache:
        other = SequenceCache(self._spec, self.context)
        other.restore(self.snapshot())
        other.adapter, other.heard = self.adapter, self.heard
        return other

    def snapshot(self) -> tuple[int, list[Any]]:
        """Where it stands. Only a memory of the same spec can look inside; the arrays in it never change."""
        return self.length, [memory.snapshot() for memory in self._owned]

    def restore(self, state: tuple[int, list[Any]]) -> None:
        self.length, states = state
        for memory, saved in zip(self._owned, states, strict=True):
            memory.restore(saved)

    def arrays(self) -> list[mx.array]:
        return [array for memory in self._owned for array in memory.arrays()]
