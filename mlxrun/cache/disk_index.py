"""Which segments there are on disk, which of them a prompt begins with, and which was unused the longest.

Segments of one root form a tree of their own: a block of pages after a block of pages, each block whole but for the
last of a sequence. Knows no file and no thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .files import DiskSegment, PageLayout
from .siblings import WORD, Key, Siblings
from .table import Group


@dataclass(frozen=True, slots=True)
class OnDisk:
    """Where a sequence could go on from what is on disk, and in which segments that is, from the beginning."""

    length: int
    segments: tuple[DiskSegment, ...]

    @property
    def tokens(self) -> Key:
        return b"".join(segment.tokens for segment in self.segments)

    def has(self, number: int, group: int) -> bool:
        block = self.segments[0].layout.block
        segment, page = divmod(number, block)
        return segment < len(self.segments) and self.segments[segment].pages[page][group]


class DiskIndex:
    def __init__(self, layout: PageLayout, groups: Sequence[Group], states: bool) -> None:
        self._size, self._states = layout.size, states
        self._block = layout.block * layout.size * WORD  # bytes of a whole segment's tokens
        self._windowed = [(index, group) for index, group in enumerate(groups) if not group.remembers_all]
        self._far = [index for index, group in enumerate(groups) if group.remembers_all]
        self._after: dict[tuple[str, str], Siblings[DiskSegment]] = {}  # by root and the segment before
        self._sizes: OrderedDict[str, int] = OrderedDict()  # by name; the next to go first, never before who follows
        self._segments: dict[str, DiskSegment] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._segments)

    def get(self, name: str) -> DiskSegment | None:
        return self._segments.get(name)

    def is_whole(self, segment: DiskSegment) -> bool:
        """Whether it has all pages of layers that remember everything: without one nobody could go on from it."""
        return all(held[index] for held in segment.pages for index in self._far)

    def add(self, segment: DiskSegment, size: int) -> None:
        """Or in the place of one with the same tokens."""
        name = segment.name
        self.bytes += size - self._sizes.pop(name, 0)
        self._sizes[name] = size
        self._segments[name] = segment
        self._after.setdefault((segment.root, segment.parent), Siblings()).add(segment.tokens, segment)
        self.touch(segment)

    def touch(self, segment: DiskSegment) -> None:
        """It was used, and so was all before it."""
        before: DiskSegment | None = segment
        while before is not None:
            self._sizes.move_to_end(before.name)
            before = self._segments.get(before.parent)

    def remove(self, segment: DiskSegment) -> list[DiskSegment]:
        """It goes, and so does what comes after it: nobody would find that. All of them."""
        name = segment.name
        if name not in self._segments:
            return []
        gone = [segment]
        for follower in list(self._after.get((segment.root, name), ())):
            gone += self.remove(follower)
        siblings = self._after[segment.root, segment.parent]
        siblings.remove(segment.tokens)
        if not len(siblings):
            del self._after[segment.root, segment.parent]
        self.bytes -= self._sizes.pop(name)
        del self._segments[name]
        return gone

    def oldest(self) -> Iterator[DiskSegment]:
        for name in list(self._sizes):
            if name in self._segments:
                yield self._segments[name]

    def shorter(self, segment: DiskSegment) -> list[DiskSegment]:
        """Those that hold nothing but a part of it."""
        siblings = self._after.get((segment.root, segment.parent), Siblings())
        return [
            other
            for other in siblings.beginnings(segment.tokens)
            if other.name != segment.name and set(other.states) <= set(segment.states)
        ]

    def find(self, root: str, ids: Key) -> OnDisk | None:
        """The most of these tokens that a sequence could go on after."""
        chain: list[DiskSegment] = []
        siblings, rest = self._after.get((root, "")), ids
        while siblings is not None:
            whole = siblings.get(rest[: self._block])
            if whole is None or len(whole.tokens) < self._block:
                break
            chain.append(whole)
            rest = rest[self._block :]
            siblings = self._after.get((root, whole.name))
        best = self._stand(tuple(chain), chain[-1].end if chain else 0)
        for count, last in self._tails(siblings, rest):
            stand = self._stand((*chain, last), last.begun + count)
            if stand is not None and (best is None or stand.length > best.length):
                best = stand
        return best

    def _tails(self, siblings: Siblings[DiskSegment] | None, rest: Key) -> list[tuple[int, DiskSegment]]:
        if siblings is None:
            return []
        begun = (
            [(len(segment.tokens) // WORD, segment) for segment in siblings.beginnings(rest)] if self._states else []
        )
        return siblings.nearest(rest) + begun

    def _stand(self, segments: tuple[DiskSegment, ...], most: int) -> OnDisk | None:
        """The longest length <= `most` that these segments have everything for."""
        if self._states:
            lengths = sorted((at for segment in segments for at, _ in segment.states if at <= most), reverse=True)
        else:
            lengths = [most, *range((most - 1) // self._size * self._size, 0, -self._size)] if most else []
        for length in lengths:
            found = OnDisk(length, tuple(segment for segment in segments if segment.begun < length))
            if self._complete(found):
                return found
        return None

    def _complete(self, found: OnDisk) -> bool:
        return all(
            found.has(number, index)
            for index, group in self._windowed
            for number in group.needed(found.length, self._size)
        )
