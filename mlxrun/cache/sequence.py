"""What one sequence remembers: one memory for each layer that has one.

Which kind a layer gets follows from its spec alone. The questions about a whole sequence (how far
can it be taken back, how big is it) are the same questions asked of every layer.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..spec import Attention, Decoder, GatedDelta, LatentAttention, Layer, Mamba1, Mamba2
from .base import Memory
from .keys import Keys
from .recurrent import Recurrent


def memory_for(layer: Layer) -> Keys | Recurrent | None:
    match layer.mixer:
        case Attention(borrows=None, causal=True, window=window, chunk=chunk):
            return Keys(keep=window if window is not None else chunk)
        case LatentAttention():
            return Keys()
        case GatedDelta() | Mamba1() | Mamba2():
            return Recurrent()
        case _:
            return None


class SequenceCache:
    def __init__(self, spec: Decoder, context: int | None = None) -> None:
        self.length = 0
        self.context = context or spec.context
        self.layers: list[Any] = [memory_for(layer) for layer in spec.layers]

    @property
    def _owned(self) -> list[Memory]:
        return [memory for memory in self.layers if memory is not None]

    @property
    def bytes(self) -> int:
        return sum(memory.bytes for memory in self._owned)

    def reusable(self, length: int) -> int:
        """The longest prefix of at most `length` tokens that every layer can go back to at once."""
        while True:
            agreed = min((memory.reusable(length) for memory in self._owned), default=length)
            if agreed == length:
                return length
            length = agreed

    def rewind(self, length: int) -> bool:
        if length > self.length or self.reusable(length) != length:
            return False
        for memory in self._owned:
            memory.rewind(length)
        self.length = length
        return True

    def snapshot(self) -> tuple[int, list[Any]]:
        return self.length, [None if memory is None else memory.snapshot() for memory in self.layers]

    def restore(self, state: tuple[int, list[Any]]) -> None:
        self.length, states = state
        for memory, saved in zip(self.layers, states, strict=True):
            if memory is not None:
                memory.restore(saved)

    def arrays(self) -> list[mx.array]:
        return [array for memory in self._owned for array in memory.arrays()]
