"""A page of tokens in the prefix tree: what it holds of each group, and who comes after it.

Its key is the page's token ids as bytes, so looking one up compares all of them. A node with fewer tokens than a page
has is partial: nothing comes after it. Which nodes go is `evict`'s business.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from .table import GONE

WORD = array("i").itemsize  # bytes of a token id
Key = bytes  # of token ids


class Snapshot(Protocol):
    """The states of recurrent layers after `length` tokens. What is in it, its maker knows."""

    @property
    def length(self) -> int: ...

    @property
    def bytes(self) -> int: ...


class TreeNode:
    __slots__ = (
        *("_keys", "_partials", "branch", "children", "end", "ended", "key", "number", "pages", "parent", "pins"),
        "snapshot",
    )

    def __init__(self, parent: TreeNode | None, key: Key, groups: int) -> None:
        self.parent, self.key = parent, key
        self.number: int = -1 if parent is None else parent.number + 1  # of its page
        self.end: int = (0 if parent is None else parent.end) + len(key) // WORD  # tokens up to here
        self.pages = [GONE] * groups
        self.snapshot: Snapshot | None = None
        self.ended = False  # a request ended in it
        self.branch = False  # its windows are seen from where several go on
        self.pins = 0
        self.children: dict[Key, TreeNode] = {}
        self._keys: list[Key] = []  # of the children, in order
        self._partials: Counter[int] = Counter()  # how many children have so many bytes, less than a page

    def __repr__(self) -> str:
        return f"TreeNode(end={self.end}, pages={self.pages}, snapshot={self.snapshot}, children={len(self.children)})"

    @property
    def path(self) -> list[TreeNode]:
        """From the first page to this one."""
        found, node = [], self
        while node.parent is not None:
            found.append(node)
            node = node.parent
        return found[::-1]

    def add(self, child: TreeNode, page: int) -> None:
        """`page`: bytes of a whole page's key."""
        self.children[child.key] = child
        insort(self._keys, child.key)
        if len(child.key) < page:
            self._partials[len(child.key)] += 1

    def remove(self, child: TreeNode) -> None:
        del self.children[child.key]
        del self._keys[bisect_left(self._keys, child.key)]
        if len(child.key) in self._partials:
            self._partials[len(child.key)] -= 1
            self._partials += Counter()  # without what has become 0

    def prefixes(self, key: Key) -> Iterator[TreeNode]:
        """Partial children that `key` begins with, the longest first."""
        for length in sorted(self._partials, reverse=True):
            if length <= len(key) and (child := self.children.get(key[:length])) is not None:
                yield child

    def longer(self, key: Key) -> TreeNode | None:
        """A child that begins with `key` and goes on."""
        at = bisect_left(self._keys, key)
        while at < len(self._keys) and self._keys[at].startswith(key):
            if len(self._keys[at]) > len(key):
                return self.children[self._keys[at]]
            at += 1
        return None

    def nearest(self, key: Key) -> list[tuple[int, TreeNode]]:
        """Children that share the most tokens with `key`, and how many: neighbours in order share the most bytes."""
        at = bisect_left(self._keys, key)
        found = [(common(near, key), self.children[near]) for near in self._keys[max(0, at - 1) : at + 1]]
        return sorted((pair for pair in found if pair[0]), key=lambda pair: -pair[0])

    def check(self, page: int) -> None:
        assert self._keys == sorted(self.children)
        assert self._partials == Counter(len(key) for key in self.children if len(key) < page)


def common(one: Key, other: Key) -> int:
    """How many token ids both begin with."""
    least = min(len(one), len(other))
    apart = int.from_bytes(one[:least], "little") ^ int.from_bytes(other[:least], "little")
    return least // WORD if not apart else ((apart & -apart).bit_length() - 1) // (8 * WORD)
