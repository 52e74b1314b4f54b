"""One prefix on its way from the disk into memory: segment after segment is read, and written into pages.

Whoever waits for it calls `advance` between two passes, which never waits. Before it is believed, the end of it may be
computed again and compared. Runs on the engine's thread.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import NamedTuple

from .disk import DiskTier, Lost
from .disk_index import OnDisk
from .files import Wanted
from .node import Snapshot
from .pages import OutOfPages
from .siblings import WORD
from .table import GONE, Tables
from .tree import PrefixTree

AHEAD = 2  # segments that are read, or wait to be written into pages
MISMATCH = "what was computed again was something else"

# these tokens, their pages and states: whether computed again they are the same. None: that cannot be told
Recheck = Callable[[Sequence[int], Tables, Sequence[Snapshot], Hashable], bool | None]


@dataclass(frozen=True, slots=True)
class PageBytes:
    """How the bytes of pages and states are had: whoever keeps them says so."""

    read: Callable[[int, int], bytes | memoryview]  # group, page
    write: Callable[[int, int, bytes], None]  # group, page
    state_bytes: Callable[[Snapshot], bytes]
    state_of: Callable[[int, bytes], Snapshot]  # after so many tokens; ValueError: they are none
    recheck: Recheck | None = None


@dataclass(slots=True)
class RestoreCounts:
    """Since the beginning."""

    restored: int = 0
    tokens: int = 0  # that need not be computed
    lost: int = 0
    mismatches: int = 0
    unchecked: int = 0  # believed, though nothing of it could be computed again
    slower: int = 0  # left where they were: computing is quicker
    no_room: int = 0


class DiskPart(NamedTuple):
    """A page, or a state, and where it is on disk."""

    segment: int
    wanted: Wanted
    number: int  # of the page, or the length of the state
    size: int

    @property
    def group(self) -> int | None:
        return self.wanted[1]


class Restore:
    def __init__(
        self, tree: PrefixTree, tier: DiskTier, store: PageBytes, found: OnDisk, scope: Hashable, counts: RestoreCounts
    ) -> None:
        self._tree, self._tier, self._store, self._found, self._counts = tree, tier, store, found, counts
        self._scope = scope
        self._pages = -(-found.length // tree.size)
        end = found.segments[-1].end
        self._kept = found.length if tree.states else min(self._pages * tree.size, end)
        self._plan()
        self._waiting: deque[tuple[list[DiskPart], Future[list[bytes]]]] = deque()
        self._to_ask: deque[int] = deque()
        self.tables = Tables(tree.groups)
        self._snapshots: list[Snapshot] = []
        self.done = False
        self.length = 0  # tokens that were restored

    @property
    def to_read(self) -> int:
        """Bytes."""
        return sum(part.size for part in self._parts)

    def begin(self) -> bool:
        """Takes the pages. False: there are not as many, though all that can be was evicted for them."""
        if not self._take():
            self._tree.evict(self.to_read)
            self._plan()
            self.done = not self._take()
        if not self.done:
            self._to_ask.extend(sorted({part.segment for part in self._parts}))
            self._ask()
        return not self.done

    def advance(self) -> bool:
        """Writes what was read since, at most a segment of it. True: it is done, well or not."""
        if self.done:
            return True
        if self._waiting and self._waiting[0][1].done():
            parts, read = self._waiting.popleft()
            self._ask()
            try:
                self._write(parts, read.result())
            except (Lost, ValueError) as error:
                if isinstance(error, ValueError):
                    self._tier.drop(self._found.segments[parts[0].segment], str(error))
                self._counts.lost += 1
                self.cancel()
                return True
        if not self._waiting:
            self._finish()
        return self.done

    def wait(self, seconds: float) -> None:
        """Until there is something to write into pages, or so long."""
        if self._waiting:
            wait([self._waiting[0][1]], seconds)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.done = True
        self._waiting.clear()
        self.tables.release()

    def _plan(self) -> None:
        self._in_memory = self._tree.whole_pages(self._found.tokens[: self._kept * WORD], self._scope)
        self._parts = self._missing() + self._states()

    def _missing(self) -> list[DiskPart]:
        """Pages that are needed and not in memory."""
        found, block = self._found, self._tier.layout.block
        parts = []
        for index, (group, pages) in enumerate(self._tree.groups):
            for number in group.needed(found.length, self._tree.size):
                if number >= len(self._in_memory) or self._in_memory[number].pages[index] == GONE:
                    parts.append(DiskPart(number // block, (number % block, index), number, pages.page_bytes))
        return parts

    def _states(self) -> list[DiskPart]:
        """The one to go on from and, to compute something again, the one before it."""
        states = [
            DiskPart(index, (length, None), length, size)
            for index, segment in enumerate(self._found.segments)
            for length, size in segment.states
            if length <= self._found.length and self._tree.states
        ]
        return sorted(states, key=lambda part: part.number)[-1 if self._store.recheck is None else -2 :]

    def _take(self) -> bool:
        missing = {(part.group, part.number) for part in self._parts}
        rows: list[list[int]] = []
        taken: list[tuple[int, int]] = []
        try:
            for index, (group, pages) in enumerate(self._tree.groups):
                needed = group.needed(self._found.length, self._tree.size)
                rows.append([GONE] * min(needed.start, needed.stop))
                for number in needed:
                    if (index, number) in missing:
                        taken.append((index, pages.take()))
                        rows[index].append(taken[-1][1])
                    else:
                        rows[index].append(self._in_memory[number].pages[index])
            self.tables = Tables.of(self._tree.groups, rows, self._kept)
        except OutOfPages:
            return False
        finally:
            for index, page in taken:
                self._tree.groups[index][1].drop(page)
        return True

    def _ask(self) -> None:
        while self._to_ask and len(self._waiting) < AHEAD:
            segment = self._to_ask.popleft()
            parts = [part for part in self._parts if part.segment == segment]
            read = self._tier.read(self._found.segments[segment], [part.wanted for part in parts])
            self._waiting.append((parts, read))

    def _write(self, parts: list[DiskPart], read: list[bytes]) -> None:
        for part, content in zip(parts, read, strict=True):
            if part.group is None:
                self._snapshots.append(self._store.state_of(part.number, content))
            else:
                self._store.write(part.group, self.tables.row(part.group)[part.number], content)

    def _finish(self) -> None:
        tokens = array("i", self._found.tokens)[: self._kept]
        try:
            same = (
                None
                if self._store.recheck is None
                else self._store.recheck(tokens, self.tables, self._snapshots, self._scope)
            )
            self._counts.unchecked += same is None
            if same is False:
                self._counts.mismatches += 1
                self._tier.drop(self._found.segments[0], MISMATCH)
                return
            part = self._kept % self._tree.size != 0 and not self._tree.states
            self._tree.insert(tokens, self.tables, self._snapshots, self._scope, ended=part)
            for node in self._tree.whole_pages(tokens.tobytes(), self._scope):
                node.stored = True
            self.length = self._found.length
            self._counts.restored += 1
            self._counts.tokens += self.length
        finally:
            self.cancel()
