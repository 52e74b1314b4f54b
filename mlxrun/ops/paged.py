"""Attention over keys that lie in pages, for all sequences of a pass at once: the new ones are written, then looked at.

The native kernels' memory has the pages. What a row gets depends on its own query and its own sequence's keys alone,
bit for bit: not on the rows beside it, on how its prompt was cut, or on the size of a page. Writing is a side effect:
passes over one store's pages are computed in the order in which they were built. Knows no spec and no sequence.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx

from ..cpu_kernels import native

LAYOUT = 2  # another number for whatever was written before pages were laid out anew


class KeptAs(NamedTuple):
    """How a key or a value lies in a page."""

    dtype: mx.Dtype  # as it is handed in
    as_bytes: bool = False  # and whether bytes with scales are made of it


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where one layer keeps its keys and values in each page of its group."""

    at: native.PagePlace
    group: int
    dtype: mx.Dtype

    @classmethod
    def within(
        cls,
        memory: native.Pages,
        offset: int,
        size: int,
        group: int,
        heads: int,
        dims: tuple[int, int],
        kept: KeptAs,
    ) -> KeyPlace:
        """`offset` bytes into each page of `size` positions. `dims`: of a key and a value; below 0: a value is so much
        of the beginning of its key."""
        return cls(native.PagePlace(memory, offset, size, heads, *dims, *kept), group, kept.dtype)


def page_memory(page_bytes: int, most: int) -> native.Pages:
    """Of one group of layers: addresses that stay, bytes where something was written."""
    return native.Pages(page_bytes, most)


class KeyRule(NamedTuple):
    """How a row's scores come about, and which keys it sees."""

    scale: float
    softcap: float = 0.0  # 0: none
    window: int = 0  # keys, its own included; 0: all
    chunk: int = 0
    sinks: mx.array | None = None
    slopes: mx.array | None = None


class PagedPass:
    """What a pass is told of the pages of its sequences, a batch for each group of layers."""

    __slots__ = ("after", "batches", "built")

    def __init__(
        self,
        counts: Sequence[int],
        offsets: Sequence[int],
        tables: Sequence[Sequence[array[int]]],
        copies: Sequence[Sequence[tuple[int, int]]],
        after: mx.array | None,
        built: Callable[[mx.array], None],
        ends: Sequence[Sequence[int]],
    ) -> None:
        """tables, copies and ends by group; ends: behind which key each row sees none, empty: itself. `after` is
        computed before anything is written; `built` is told what is then."""
        self.batches = [
            native.PagedBatch(counts, offsets, of_group, copied, until)
            for of_group, copied, until in zip(tables, copies, ends, strict=True)
        ]
        self.after, self.built = after, built

    def in_turn(self, x: mx.array) -> mx.array:
        """x, and what is computed from it comes after the pass before."""
        return x if self.after is None else mx.depends([x], [self.after])[0]


def attend(
    q: mx.array, k: mx.array | None, v: mx.array | None, place: KeyPlace, pages: PagedPass, rule: KeyRule
) -> mx.array:
    """Folded queries, and the pass's folded keys and values, None where others wrote them -> rows (T, H * Dv)."""
    return native.attend_pages(
        q,
        None if k is None else k.astype(place.dtype),
        None if v is None else v.astype(place.dtype),
        place.at,
        pages.batches[place.group],
        *rule,
    )


def read_all(k: mx.array, place: KeyPlace, pages: PagedPass) -> list[mx.array]:
    """The pass's folded keys, which have no values, are written; then all of each sequence (1, G, S, D), as copies."""
    return native.read_pages(k.astype(place.dtype), place.at, pages.batches[place.group])
