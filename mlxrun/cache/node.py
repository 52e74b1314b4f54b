"""A page of tokens in the prefix tree: what it holds of each group, and who comes after it.

Its key is the page's token ids as bytes, so looking one up compares all of them. A node with fewer tokens than a page
has is partial: nothing comes after it. Which nodes go is `evict`'s business.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from .siblings import WORD, Key, Siblings
from .table import GONE


class Snapshot(Protocol):
    """The states of recurrent layers after `length` tokens. What is in it, its maker knows."""

    @property
    def length(self) -> int: ...

    @property
    def bytes(self) -> int: ...


class TreeNode:
    __slots__ = (
        *("branch", "children", "end", "ended", "hit", "key", "number", "pages", "parent", "pins", "scope", "snapshot"),
        "stored",
    )

    def __init__(self, parent: TreeNode | None, key: Key, groups: int, scope: Hashable = None) -> None:
        self.parent, self.key, self.scope = parent, key, scope
        self.number: int = -1 if parent is None else parent.number + 1  # of its page
        self.end: int = (0 if parent is None else parent.end) + len(key) // WORD  # tokens up to here
        self.pages = [GONE] * groups
        self.snapshot: Snapshot | None = None
        self.ended = False  # a request ended in it
        self.hit = False  # somebody went on from here, or from behind it
        self.stored = False  # on disk, too
        self.branch = False  # its windows are seen from where several go on
        self.pins = 0
        self.children: Siblings[TreeNode] = Siblings()

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


def tokens_of(path: Sequence[TreeNode]) -> Key:
    return b"".join(node.key for node in path)
