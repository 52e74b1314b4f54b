"""One ragged batch: the rows of several sequences laid end to end, with no padding anywhere.

`Pass` is what one forward call shares between layers: where each sequence's rows lie, their
positions, the masks, and the keys that a layer lends to later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import mlx.core as mx

from ..contracts import HeardWindow, SequenceMemory, SoftRows, Turns
from ..ops.adapters import AdaptedSpan
from ..ops.masks import Pictures, Sight, boolean, mask
from ..ops.packed import Segments
from ..ops.paged import KeyPlace, PagedPass
from ..ops.span import Span


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` rows from `start` on are the tokens offset, offset + 1, ... of one sequence."""

    start: int
    count: int
    offset: int
    context: int
    pictures: Pictures = ()  # positions of those whose rows are among these and see each other
    shift: int = 0  # by so much rope turns them further than by their place among the keys

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.count)

    @property
    def positions(self) -> range:
        """Among the keys of its sequence."""
        return range(self.offset, self.offset + self.count)

    @property
    def turns(self) -> range:
        """By which rope turns them."""
        return range(self.offset + self.shift, self.offset + self.shift + self.count)


def adapted_rows(sequences: Sequence[tuple[SequenceMemory, int]]) -> tuple[AdaptedSpan, ...]:
    """Neighbours of one adapter as one."""
    found: list[AdaptedSpan] = []
    start = 0
    for memory, count in sequences:
        if memory.adapter is not None and count:
            if found and found[-1][2] is memory.adapter and found[-1][0] + found[-1][1] == start:
                first, before, _ = found.pop()
                found.append((first, before + count, memory.adapter))
            else:
                found.append((start, count, memory.adapter))
        start += count
    return tuple(found)


class Pass:
    __slots__ = (
        *("_cut", "_masks", "_pictures", "_positions", "_rows", "_segments", "_turned", "adapted", "apart"),
        *("chosen", "coordinates", "heard", "lent", "pages", "places", "seen", "soft", "total", "turns"),
    )

    def __init__(
        self,
        rows: Sequence[tuple[int, int, int]],
        pages: PagedPass | None = None,
        pictures: Sequence[Pictures] = (),
        adapted: tuple[AdaptedSpan, ...] = (),
        turns: Turns | None = None,
    ) -> None:
        """`rows`: of each sequence how many, from which position on, and its context."""
        self.adapted, self.turns = adapted, turns
        self.soft: SoftRows | None = None
        self.pages = pages  # None: each sequence keeps its own keys
        self._rows, self._pictures = rows, pictures
        self._segments: tuple[Segment, ...] | None = None
        self.total = sum([count for count, _, _ in rows])
        self.lent: dict[int, tuple[Span, ...]] = {}
        self.places: dict[int, KeyPlace] = {}  # the same, where keys lie in pages
        self.chosen: dict[int, tuple[mx.array | None, ...]] = {}  # keys an indexer picked, lent like spans
        self._positions: mx.array | None = None
        self._turned: mx.array | None = None
        self.coordinates: mx.array | None = None  # (axes, T) int32, where rows stand in a picture
        if turns is not None and turns.apart:
            self.coordinates = mx.array([*map(list, turns.coordinates)], mx.int32)
        self.apart: mx.array | None = None  # (H, distances) what distance adds to scores, where rows see both ways
        self.seen: Sequence[int] = ()  # of each sequence how many rows anybody looks at; empty: all
        self._cut: Segments | None = None
        self.heard: tuple[HeardWindow | None, ...] = ()  # by each sequence
        self._masks: dict[tuple[Sight, Segment, int, bool], mx.array | str | None] = {}

    @classmethod
    def of(
        cls,
        sequences: Sequence[tuple[SequenceMemory, int]],
        pictures: Sequence[Pictures] = (),
        turns: Turns | None = None,
    ) -> Pass:
        """(memory, number of new rows) a sequence, in the order of the rows; of each its pictures, if there are any."""
        rows = [(count, memory.length, memory.context) for memory, count in sequences]
        store = sequences[0][0].store if sequences else None
        paged = None if store is None else store.begin(sequences, pictures)
        made = cls(rows, paged, pictures, adapted_rows(sequences), turns)
        made.heard = tuple(memory.heard for memory, _ in sequences)
        return made

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Made when somebody asks: a stack that does all layers by itself does not."""
        if self._segments is None:
            starts = accumulate([count for count, _, _ in self._rows], initial=0)
            made = [Segment(start, *row) for start, row in zip(starts, self._rows, strict=False)]
            if self._pictures:
                made = [replace(one, pictures=shown) for one, shown in zip(made, self._pictures, strict=True)]
            if self.turns is not None:
                made = [replace(one, shift=shift) for one, shift in zip(made, self.turns.shifts, strict=True)]
            self._segments = tuple(made)
        return self._segments

    @property
    def cut(self) -> Segments:
        """As attention without memory wants to know it."""
        if self._cut is None:
            self._cut = Segments([count for count, _, _ in self._rows if count], self.apart, self.seen)
        return self._cut

    @property
    def positions(self) -> mx.array:  # (T,) int32
        if self._positions is None:
            self._positions = mx.array([position for s in self.segments for position in s.positions], mx.int32)
        return self._positions

    @property
    def turned(self) -> mx.array:  # (T,) int32, by which rope turns the rows; nobody asks where there are coordinates
        if self.turns is None:
            return self.positions
        if self._turned is None:
            self._turned = mx.array([position for s in self.segments for position in s.turns], mx.int32)
        return self._turned

    def fold(self, x: mx.array, heads: int, dim: int) -> mx.array:
        """(T, heads * dim) rows as MLX's kernels want them: (1, heads, T, dim), or (T, heads, 1, dim)."""
        if len(self.segments) == 1:
            return x.reshape(1, self.total, heads, dim).transpose(0, 2, 1, 3)
        return x.reshape(self.total, heads, 1, dim)

    def fold_rows(self, factor: mx.array) -> mx.array:
        """One number a row (T,), shaped to multiply folded rows."""
        return factor[:, None] if len(self.segments) == 1 else factor[:, None, None, None]

    def of_segment(self, folded: mx.array, segment: Segment) -> mx.array:
        """One sequence's part of folded rows: (1, heads, L, dim)."""
        if len(self.segments) == 1:
            return folded
        return folded[segment.rows].transpose(2, 1, 0, 3)

    def unfold(self, parts: Sequence[mx.array]) -> mx.array:
        """A (1, heads, L, dim) for each segment -> rows (T, heads * dim)."""
        rows = [y.transpose(0, 2, 1, 3).reshape(y.shape[2], -1) for y in parts]
        return rows[0] if len(rows) == 1 else mx.concatenate(rows)

    def mask(self, sight: Sight, segment: Segment, keys: range) -> mx.array | str | None:
        """`masks.mask`, made once for all layers that see alike."""
        return self._cached(mask, sight, segment, keys)

    def boolean(self, sight: Sight, segment: Segment, keys: range) -> mx.array:
        return self._cached(boolean, sight, segment, keys)

    def _cached(
        self, make: Callable[[Sight, range, range, Pictures], Any], sight: Sight, segment: Segment, keys: range
    ) -> Any:
        key = (sight, segment, keys.start, make is boolean)
        if key not in self._masks:
            self._masks[key] = make(sight, segment.positions, keys, segment.pictures)
        return self._masks[key]
