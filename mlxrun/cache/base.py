"""What every kind of layer's memory answers. Ask it; never look at its type.

A memory belongs to one layer of one sequence. `append` serves attention, `read` and `write` recurrent
mixers; everything else is the same question for all of them. The other half of the contract is `contracts.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import mlx.core as mx

from ..ops.paged import KeyPlace
from ..ops.span import Span


class Rewindable(Protocol):
    def reusable(self, length: int) -> int:
        """The longest length <= `length` to which this could be taken back right now."""


def agreed(length: int, all_of_it: Sequence[Rewindable]) -> int:
    """The longest length <= `length` to which all of these could be taken back at once."""
    while (least := min((one.reusable(length) for one in all_of_it), default=length)) < length:
        length = least
    return length


class LayerCache(ABC):
    __slots__ = ()
    places: ClassVar[tuple[KeyPlace, ...]] = ()

    @property
    def bytes(self) -> int:
        """Held on the device now."""
        return sum(array.nbytes for array in self.arrays())

    @abstractmethod
    def reusable(self, length: int) -> int:
        """The longest length <= `length` to which this memory could be taken back right now."""

    @abstractmethod
    def rewind(self, length: int) -> bool:
        """Forget everything after `length` tokens; False, and nothing changes, where it cannot."""

    @abstractmethod
    def snapshot(self) -> Any:
        """All that is needed to come back here later; cheap, because arrays are never changed in place."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Stand where a memory of the same kind stood when it made that snapshot."""

    @abstractmethod
    def arrays(self) -> list[mx.array]:
        """What to evaluate so that the memory stands on its own."""

    def append(self, *rows: mx.array) -> Span:
        raise TypeError(f"{type(self).__name__} holds no keys")

    def read(self) -> tuple[mx.array, ...] | None:
        raise TypeError(f"{type(self).__name__} holds no state")

    def write(self, length: int, *state: mx.array) -> None:
        raise TypeError(f"{type(self).__name__} holds no state")
