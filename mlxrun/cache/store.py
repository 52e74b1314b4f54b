"""The keys of all sequences of one model, in pages that they share.

Layers that forget alike are a group: a sequence has one table for all of them. A page holds a stretch of positions of
every layer of its group. What is written in a pass is reserved before that pass is built, and passes are computed in
the order in which they were built. Recurrent layers have no keys; each sequence holds their states itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ..ops.masks import Pictures, ends_of
from ..ops.paged import KeptAs, KeyPlace, PagedPass, page_memory
from ..spec import Attention, Decoder, LatentAttention, Layer, SideBySide
from .kinds import PAGE, group_of, kept_bytes
from .pages import PageIds
from .table import PagedGroups, grow_together

if TYPE_CHECKING:
    from .paged import PagedSequence

Content = bytes  # of a page
LINE = 64  # bytes
MOST = 2**38  # bytes that are addressed for each group; memory is taken where something is written


class PagedStore:
    def __init__(
        self, spec: Decoder, types: Sequence[Sequence[mx.Dtype]], size: int = PAGE, *, as_bytes: bool = False
    ) -> None:
        """`types`: of what each layer remembers of a token, in order; `as_bytes`: it is kept as bytes with scales."""
        self.spec = spec
        self.after: mx.array | None = None  # the last pass that was built
        found = [group_of(layer) for layer in spec.layers]
        names = list(dict.fromkeys(group for group in found if group is not None))
        shapes = [key_shapes(layer, kept, as_bytes) for layer, kept in zip(spec.layers, types, strict=True)]
        self._memory, groups = [], []
        self.places: list[tuple[KeyPlace, ...]] = [()] * len(found)  # of each layer: its keys, and those of its indexer
        for index, name in enumerate(names):
            members = [i for i, group in enumerate(found) if group == name]
            sizes = [shape.bytes(size) for i in members for shape in shapes[i]]
            ends = list(accumulate(sizes))
            memory = page_memory(ends[-1], max(1, MOST // ends[-1]))
            starts = iter([0, *ends])
            for i in members:
                self.places[i] = tuple(shape.place(memory, next(starts), size, index) for shape in shapes[i])
            self._memory.append(memory)
            groups.append((name, PageIds(size, ends[-1])))
        self.groups: PagedGroups = groups
        self.forgets = not all(group.remembers_all for group, _ in groups)
        mixers = [layer.mixer for layer in spec.layers]
        self._sees = [  # of each group, whether the rows of a picture see each other
            any(isinstance(m, Attention) and m.pictures for m, own in zip(mixers, found, strict=True) if own == name)
            for name in names
        ]
        self._written = [0] * len(groups)  # pages from the first on that may have memory

    @property
    def bytes(self) -> int:
        """In pages that somebody uses."""
        return sum(ids.bytes for _, ids in self.groups)

    def read(self, group: int, page: int) -> Content:
        """What lies in that page, once all passes are computed that were built."""
        self._settle()
        return self._memory[group].read(page)

    def write(self, group: int, page: int, content: Content) -> None:
        """Over what lies in that page, once nobody reads it who was before."""
        self._settle()
        self._memory[group].write(page, content)
        self._written[group] = max(self._written[group], page + 1)

    def _settle(self) -> None:
        if self.after is not None:
            mx.eval(self.after)

    def begin(self, sequences: Sequence[tuple[PagedSequence, int]], pictures: Sequence[Pictures] = ()) -> PagedPass:
        """Pages for the new rows of each; OutOfPages, and nothing is changed, where there are none."""
        if self.forgets:
            for sequence, _ in sequences:
                sequence.forget()
        counts = [count for _, count in sequences]
        offsets = [sequence.length for sequence, _ in sequences]
        ends = []
        if any(pictures):
            runs = [range(offset, offset + count) for offset, count in zip(offsets, counts, strict=True)]
            ends = [end for run, shown in zip(runs, pictures, strict=True) for end in ends_of(run, shown)]
        copies = grow_together([(sequence.tables, sequence.length + count) for sequence, count in sequences])
        self._written = [max(n, ids.highest) for n, (_, ids) in zip(self._written, self.groups, strict=True)]
        each = range(len(self.groups))
        return PagedPass(
            counts,
            offsets,
            [[sequence.tables.row(group) for sequence, _ in sequences] for group in each],
            [[(copy.source, copy.target) for copy in copies if copy.group == group] for group in each],
            self.after,
            self._built,
            [ends if sees else [] for sees in self._sees],
        )

    def _built(self, done: mx.array) -> None:
        """All passes up to this one are computed when `done` is."""
        self.after = done

    def begin_anew(self) -> None:
        """What the last pass computes is not waited for: it broke."""
        self.after = None

    def give_back(self) -> None:
        """The memory of pages that nobody uses goes back to the system. Nothing may be under way."""
        for index, (memory, (_, ids)) in enumerate(zip(self._memory, self.groups, strict=True)):
            for page in ids.free:
                memory.forget(page, 1)
            memory.forget(ids.highest, max(0, self._written[index] - ids.highest))
            self._written[index] = ids.highest


@dataclass(frozen=True, slots=True)
class KeyShape:
    """What one layer keeps of a token."""

    heads: int
    dims: tuple[int, int]  # of a key and a value; below 0: a value is so much of the beginning of its key
    kept: KeptAs

    def bytes(self, size: int) -> int:
        each = 1 if self.kept.as_bytes else self.kept.dtype.size
        exact = self.heads * size * sum(kept_bytes(max(0, values), each) for values in self.dims)
        return -(-exact // LINE) * LINE

    def place(self, memory: Any, offset: int, size: int, group: int) -> KeyPlace:
        return KeyPlace.within(memory, offset, size, group, self.heads, self.dims, self.kept)


def key_shapes(layer: Layer, types: Sequence[mx.Dtype], as_bytes: bool = False) -> tuple[KeyShape, ...]:
    match layer.mixer:
        case (Attention(borrows=None, causal=True) as s) | SideBySide(attention=s):
            return (KeyShape(s.kv_heads, (s.head_dim, s.head_dim), KeptAs(types[0], as_bytes)),)
        case LatentAttention() as s:
            latent = KeyShape(1, (s.kv_rank + s.rope_dim, -s.kv_rank), KeptAs(types[0]))
            return (
                (latent,)
                if s.indexer is None
                else (latent, KeyShape(1, (s.indexer.dim, -s.indexer.dim), KeptAs(types[1])))
            )
        case _:
            return ()
