"""Ids of the pages of one group of layers, and how many use each. Holds no keys: a store of ours has those.

A page is `size` positions of all layers of its group. The lowest free id is taken first, so that a store can give its
end back. Beside the users of a page is told how many of them are nodes of the prefix tree: a page that nobody else
uses is idle, and what is idle could be freed. All calls are made on one thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from heapq import heappop, heappush


class OutOfPages(Exception):
    """As many pages are in use as there may be. Nothing was changed."""


class PageIds:
    def __init__(self, size: int, page_bytes: int, capacity: int | None = None) -> None:
        if size < 1 or size & (size - 1):
            raise ValueError(f"A page is a power of two of positions, not {size}.")
        self.size, self.page_bytes = size, page_bytes
        self.capacity = capacity  # pages; None: no limit. Lowered below `used`, it only stops `take`
        self.used = 0
        self.kept = 0  # pages that the prefix tree uses
        self.idle = 0  # pages that nobody else uses
        self._users = array("i")
        self._kept = array("i")  # of the users, those that are nodes of the tree
        self._free: list[int] = []  # a heap; what is past the end of `_users` in it is stale

    def __repr__(self) -> str:
        return f"PageIds(size={self.size}, used={self.used}, idle={self.idle}, capacity={self.capacity})"

    @property
    def bytes(self) -> int:
        return self.used * self.page_bytes

    @property
    def highest(self) -> int:
        """One more than the highest id in use."""
        return len(self._users)

    @property
    def room(self) -> int | None:
        """Pages that can still be taken; None: no limit."""
        return None if self.capacity is None else max(0, self.capacity - self.used)

    @property
    def free(self) -> list[int]:
        """Below `highest`."""
        return [page for page, count in enumerate(self._users) if not count]

    def take(self) -> int:
        """The lowest free id; it has one user, who asked for it."""
        if self.room == 0:
            raise OutOfPages(f"All {self.capacity} pages of {self.size} positions are in use.")
        self.used += 1
        if self._free and self._free[0] < len(self._users):
            page = heappop(self._free)
            self._users[page] = 1
            return page
        self._free.clear()
        self._users.append(1)
        self._kept.append(0)
        return len(self._users) - 1

    def hold(self, page: int) -> None:
        self._change(page, 1, 0)

    def drop(self, page: int) -> None:
        """One user less; without any it is free at once."""
        self._change(page, -1, 0)

    def keep(self, page: int) -> None:
        """A node of the prefix tree holds it."""
        self._change(page, 1, 1)

    def let_go(self, page: int) -> None:
        """A node of the prefix tree drops it."""
        self._change(page, -1, -1)

    def users(self, page: int) -> int:
        return self._users[page] if 0 <= page < len(self._users) else 0

    def is_idle(self, page: int) -> bool:
        return self.users(page) == self._kept[page] if self.users(page) else False

    def check(self, users: Mapping[int, int], kept: Mapping[int, int]) -> None:
        """That these are all who use a page: `users` counts everybody, `kept` the nodes of the tree among them."""
        counted = {page: count for page, count in enumerate(self._users) if count}
        assert counted == dict(users), f"{counted} users are counted, {dict(users)} there are"
        counted = {page: count for page, count in enumerate(self._kept) if count}
        assert counted == dict(kept), f"{counted} nodes are counted, {dict(kept)} there are"
        assert (self.used, self.kept) == (len(users), len(kept))
        assert self.idle == sum(users[page] == count for page, count in kept.items())
        free = [page for page in self._free if page < len(self._users)]
        assert sorted(free) == [page for page, count in enumerate(self._users) if not count], "free and used, or lost"
        assert not self._users or self._users[-1], "the end is in use"

    def _change(self, page: int, users: int, kept: int) -> None:
        if not self.users(page):
            raise ValueError(f"Page {page} is in nobody's use.")
        was, was_kept = self._kept[page] == self._users[page], self._kept[page] > 0
        self._users[page] += users
        self._kept[page] += kept
        self.idle += (self._kept[page] == self._users[page] > 0) - was
        self.kept += (self._kept[page] > 0) - was_kept
        if not self._users[page]:
            self._free_up(page)

    def _free_up(self, page: int) -> None:
        self.used -= 1
        if page + 1 < len(self._users):
            heappush(self._free, page)
            return
        while self._users and not self._users[-1]:
            self._users.pop()
            self._kept.pop()
