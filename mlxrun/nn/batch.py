"""One ragged batch: the rows of several sequences laid end to end, with no padding anywhere.

`Pass` is what one forward call shares between layers: where each sequence's rows lie, their
positions, the masks, and the keys that a layer lends to later ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx


class LayerMemory(Protocol):
    """What one layer remembers of one sequence; see `mlxrun/cache/`."""

    def append(self, *rows: mx.array) -> Span: ...


@dataclass(frozen=True, slots=True)
class Span:
    """Keys (and whatever goes with them) of one sequence, as attention reads them."""

    arrays: tuple[mx.array, ...]  # each (1, kv heads, S, dim)
    first: int  # the position of the first key


class SequenceMemory(Protocol):
    length: int  # tokens that went through the model so far
    context: int  # the longest this session may become; chooses long or short RoPE once
    layers: Sequence[LayerMemory | None]


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` rows from `start` on are the tokens offset, offset + 1, ... of one sequence."""

    start: int
    count: int
    offset: int
    context: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.count)


class Pass:
    __slots__ = ("_masks", "_positions", "lent", "segments", "total")

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = tuple(segments)
        self.total = sum(s.count for s in self.segments)
        self.lent: dict[int, tuple[Span, ...]] = {}
        self._positions: mx.array | None = None
        self._masks: dict[tuple[int, int, int, int | None, int | None], mx.array] = {}

    @classmethod
    def of(cls, sequences: Sequence[tuple[SequenceMemory, int]]) -> Pass:
        """(memory, number of new rows) a sequence, in the order of the rows."""
        segments, start = [], 0
        for memory, count in sequences:
            segments.append(Segment(start, count, memory.length, memory.context))
            start += count
        return cls(segments)

    @property
    def positions(self) -> mx.array:  # (T,) int32
        if self._positions is None:
            spans = [mx.arange(s.offset, s.offset + s.count, dtype=mx.int32) for s in self.segments]
            self._positions = spans[0] if len(spans) == 1 else mx.concatenate(spans)
        return self._positions
