"""Which pages one sequence has, in each group of layers that forget alike. Holds no keys and launches nothing.

Position p of a sequence lies in its page number p // size, at p % size, for as long as it is remembered: nothing ever
moves. `length` positions are committed; those from there to `end` have pages, and passes that are on their way may be
writing them. Whoever is told to copy a page does so before anything else that is launched after.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from typing import NamedTuple

from .pages import OutOfPages, PageIds

GONE = -1  # in a row: that page was forgotten


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that forget alike: `reach` positions back, to the beginning of a `chunk`, or (both None) nothing."""

    name: str
    reach: int | None = None  # how many positions a query sees, itself included
    chunk: int | None = None

    @property
    def remembers_all(self) -> bool:
        return self.reach is None and self.chunk is None

    def oldest(self, position: int) -> int:
        """The first position that a query at `position` sees; itself, where it sees nothing before it."""
        if self.chunk is not None:
            return position // self.chunk * self.chunk
        return 0 if self.reach is None else max(0, position - self.reach + 1)

    def needed(self, length: int, size: int) -> range:
        """Numbers of the pages, of those before `length`, that a query at `length` or later may see or write to."""
        return range(self.oldest(length) // size, -(-length // size))


@dataclass(frozen=True, slots=True)
class Copy:
    """The whole page `source` of that group is to be copied over `target`."""

    group: int
    source: int
    target: int


class Share(NamedTuple):
    """Bytes of a sequence's pages."""

    own: int  # that nobody else uses
    shared: int


PagedGroups = Sequence[tuple[Group, PageIds]]


class Tables:
    __slots__ = ("_first", "_rows", "end", "groups", "inserted", "length", "size")

    def __init__(self, groups: PagedGroups) -> None:
        self.groups = groups
        self.size = groups[0][1].size if groups else 1
        if any(pages.size != self.size for _, pages in groups):
            raise ValueError("The groups of a sequence have pages of different sizes.")
        self.length = self.end = 0
        self.inserted = 0  # whole pages that the prefix tree was told of
        self._rows = [array("i") for _ in groups]
        self._first = [0] * len(groups)  # number of the first page that is not forgotten

    @classmethod
    def of(cls, groups: PagedGroups, rows: Sequence[Sequence[int]], length: int) -> Tables:
        """A sequence of `length` positions in pages that somebody else has too; GONE where nothing needs one."""
        tables = cls(groups)
        tables.length = tables.end = length
        for index, (row, (_, pages)) in enumerate(zip(rows, groups, strict=True)):
            tables._rows[index] = array("i", row)
            tables._first[index] = sum(page == GONE for page in row)
            for page in row[tables._first[index] :]:
                pages.hold(page)
        return tables

    @property
    def bytes(self) -> Share:
        own = shared = 0
        for first, row, (_, pages) in zip(self._first, self._rows, self.groups, strict=True):
            alone = sum(pages.users(page) == 1 for page in row[first:])
            own += alone * pages.page_bytes
            shared += (len(row) - first - alone) * pages.page_bytes
        return Share(own, shared)

    def row(self, group: int) -> array[int]:
        """Pages by their number, GONE where one was forgotten. Ours: it grows in place, so read it and keep no view."""
        return self._rows[group]

    def grow(self, length: int) -> list[Copy]:
        """Pages for all positions before `length`, from `end` on to be written; what must be copied before that.

        OutOfPages: nothing was changed.
        """
        return grow_together([(self, length)])

    def commit(self, length: int) -> None:
        """What was written before `length` stands; only `rewind` takes it back."""
        if not self.length <= length <= self.end:
            raise ValueError(f"{length} positions cannot be committed: {self.length} are, and {self.end} have pages.")
        self.length = length

    def reusable(self, length: int) -> int:
        """The longest length <= `length` to which this sequence could be taken back now."""
        length = min(length, self.end)
        while True:
            agreed = min((self._stands(group, length) for group in range(len(self.groups))), default=length)
            if agreed == length:
                return length
            length = agreed

    def rewind(self, length: int) -> bool:
        """Drops what comes after `length`. False, and nothing changes, where a query there would miss something."""
        if not 0 <= length <= self.end or self.reusable(length) != length:
            return False
        wanted = -(-length // self.size)
        for index, (row, (_, pages)) in enumerate(zip(self._rows, self.groups, strict=True)):
            for page in row[max(wanted, self._first[index]) :]:
                pages.drop(page)
            del row[wanted:]
            self._first[index] = min(self._first[index], wanted)
        self.end, self.length = length, min(self.length, length)
        self.inserted = min(self.inserted, length // self.size)
        return True

    def fork(self) -> Tables:
        """Another sequence that stands where this one does, in the same pages: who writes first copies."""
        other = Tables.of(self.groups, self._rows, self.end)
        other.length, other.inserted = self.length, self.inserted
        return other

    def forget(self) -> None:
        """Drops the pages that no query at `length` or later can see."""
        for index, (row, (group, pages)) in enumerate(zip(self._rows, self.groups, strict=True)):
            upto = min(group.oldest(self.length) // self.size, len(row))
            for number in range(self._first[index], upto):
                pages.drop(row[number])
                row[number] = GONE
            self._first[index] = max(self._first[index], upto)

    def use(self, group: int, number: int, page: int) -> None:
        """Another page in the place of that one, which holds the same and to which nothing is going to be written."""
        row, pages = self._rows[group], self.groups[group][1]
        pages.hold(page)
        pages.drop(row[number])
        row[number] = page

    def release(self) -> None:
        """Drops everything; it stands at the beginning then."""
        self.rewind(0)

    def check(self) -> None:
        """That the pages of [oldest visible, end) are there, and what will be written to has one owner."""
        assert 0 <= self.length <= self.end
        for first, row, (group, pages) in zip(self._first, self._rows, self.groups, strict=True):
            assert len(row) == -(-self.end // self.size)
            assert all(page == GONE for page in row[:first])
            assert all(pages.users(page) > 0 for page in row[first:])
            needed = group.needed(self.length, self.size)
            assert not needed or first <= needed.start, f"group {group.name} forgot what is seen from {self.length}"

    def _has_room(self, length: int) -> bool:
        """Whether its pages reach so far, and are its own: so it is for nearly every row of nearly every pass."""
        if length <= self.end:
            return True
        reaches = bool(self._rows) and length <= len(self._rows[0]) * self.size
        return reaches and all(
            pages.users(row[-1]) == 1 for row, (_, pages) in zip(self._rows, self.groups, strict=True)
        )

    def _need(self, group: int, length: int) -> int:
        """Pages that are to be taken to grow; one more where others let go of the page first that it would copy."""
        if length <= self.end:
            return 0
        return -(-length // self.size) - len(self._rows[group]) + self._writes_to_shared(group)

    def _take(self, length: int) -> list[Copy]:
        if length <= self.end:
            return []
        copies = [copy for group in range(len(self.groups)) if (copy := self._unshare(group)) is not None]
        wanted = -(-length // self.size)
        for row, (_, pages) in zip(self._rows, self.groups, strict=True):
            while len(row) < wanted:
                row.append(pages.take())
        self.end = length
        return copies

    def _writes_to_shared(self, group: int) -> bool:
        """Whether the next position lies inside a page that somebody else uses too."""
        return bool(self.end % self.size) and self.groups[group][1].users(self._rows[group][-1]) > 1

    def _unshare(self, group: int) -> Copy | None:
        if not self._writes_to_shared(group):
            return None
        row, pages = self._rows[group], self.groups[group][1]
        source, row[-1] = row[-1], pages.take()
        pages.drop(source)
        return Copy(group, source, row[-1])

    def _stands(self, index: int, length: int) -> int:
        """The longest length <= `length` where this group has all that a query sees."""
        group, first = self.groups[index][0], self._first[index]
        needed = group.needed(length, self.size)
        if not needed or needed.start >= first:
            return length
        step = lcm(group.chunk, self.size) if group.chunk is not None else length + 1
        return length // step * step  # where a chunk begins with a page, nothing before it is seen


def grow_together(wanted: Sequence[tuple[Tables, int]]) -> list[Copy]:
    """What a pass of several sequences needs: each grows to its length, or, with OutOfPages, none of them."""
    growing = [one for one in wanted if not one[0]._has_room(one[1])]
    for index, (group, pages) in enumerate(growing[0][0].groups if growing else ()):
        need = sum(tables._need(index, length) for tables, length in growing)
        if pages.room is not None and pages.room < need:
            raise OutOfPages(f"{need} more pages of group {group.name} are needed, and {pages.room} are left.")
    copies = [copy for tables, length in growing for copy in tables._take(length)]
    for tables, length in wanted:
        tables.end = max(tables.end, length)
    return copies
