"""Who of the prefix tree goes first, in which order everything was used, and how many bytes that holds.

Nodes lie in the order of their last use, and using one uses all before it: so the first in order that nobody comes
after is the leaf that was unused the longest. Before leaves go window pages that no end of a request sees any more.
Recurrent states have an order and a quota of their own. What somebody runs on stays, and so does what is pinned, and
the path of the session that went on last: a burst of others does not push it out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .node import Snapshot, TreeNode
from .table import GONE, PagedGroups


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """Of what nobody runs on, in bytes; and the most of that for its parts."""

    bytes: int
    snapshots: float = 0.5  # states, where there are pages too
    windows: float = 0.25  # window pages that no end of a request sees
    pins: float = 0.25


@dataclass(slots=True)
class Evicted:
    """Counted since the beginning."""

    nodes: int = 0
    windows: int = 0  # pages of windows alone
    snapshots: int = 0  # states alone
    pins: int = 0  # that had to yield


class Eviction:
    def __init__(self, groups: PagedGroups, states: bool, limits: TreeLimits) -> None:
        self.groups, self.states, self.limits = groups, states, limits
        self.windowed = [index for index, (group, _) in enumerate(groups) if not group.remembers_all]
        self.snapshot_bytes = 0
        self.evicted = Evicted()
        self.leaving: Callable[[TreeNode], None] | None = None  # told of a node that is about to go, or its state
        self.order: OrderedDict[TreeNode, None] = OrderedDict()  # the next to go first, and never before its children
        self._snapshots: OrderedDict[TreeNode, None] = OrderedDict()
        self._passed: OrderedDict[TreeNode, int] = OrderedDict()  # bytes of window pages that no end sees
        self._passed_bytes = 0
        self._pins: OrderedDict[TreeNode, None] = OrderedDict()  # the ends of what is pinned, the oldest first
        self.session: tuple[TreeNode, ...] = ()  # the path of the one that went on last

    @property
    def bytes(self) -> int:
        """Of all that the tree holds, whoever else does."""
        return sum(pages.kept * pages.page_bytes for _, pages in self.groups) + self.snapshot_bytes

    @property
    def idle_bytes(self) -> int:
        """Of what nobody else holds."""
        return sum(pages.idle * pages.page_bytes for _, pages in self.groups) + self.snapshot_bytes

    @property
    def pinned_bytes(self) -> int:
        return self.bytes_of({node for end in self._pins for node in end.path})

    def touch(self, node: TreeNode) -> None:
        """It was used, and so was all before it."""
        while node.parent is not None:
            self.order[node] = None
            self.order.move_to_end(node)
            node = node.parent

    def set_page(self, node: TreeNode, group: int, page: int) -> None:
        old, pages = node.pages[group], self.groups[group][1]
        if page != GONE:
            pages.keep(page)
        if old != GONE:
            pages.let_go(old)
        node.pages[group] = page

    def set_snapshot(self, node: TreeNode, snapshot: Snapshot | None) -> None:
        if node.snapshot is not None:
            self.snapshot_bytes -= node.snapshot.bytes
            self._snapshots.pop(node)
        if snapshot is not None:
            self.snapshot_bytes += snapshot.bytes
            self._snapshots[node] = None
            node.stored = False
        node.snapshot = snapshot

    def used_snapshot(self, node: TreeNode) -> None:
        self._snapshots.move_to_end(node)

    def used_windows(self, nodes: Iterable[TreeNode]) -> None:
        for node in nodes:
            if node in self._passed:
                self._passed.move_to_end(node)

    def keep_windows(self, nodes: Iterable[TreeNode]) -> None:
        """They are seen from where several go on."""
        for node in nodes:
            self._set_passed(node, 0)
            node.branch = True

    def passed_windows(self, nodes: Iterable[TreeNode]) -> None:
        """The end of their path is too far away to see them."""
        for node in nodes:
            if not node.branch:
                self._set_passed(node, self._windows_bytes(node))

    def set_session(self, end: TreeNode) -> None:
        """It ended just now, and went on from where it had ended before."""
        self.session = tuple(end.path)

    def pin(self, end: TreeNode) -> bool:
        """False: it alone is more than may be pinned. The oldest pins yield."""
        if end not in self._pins:
            self._pins[end] = None
            for node in end.path:
                node.pins += 1
        self._pins.move_to_end(end)
        while self.pinned_bytes > self.limits.pins * self.limits.bytes:
            oldest = next(iter(self._pins))
            self.unpin(oldest)
            if oldest is end:
                return False
            self.evicted.pins += 1
        return True

    def unpin(self, end: TreeNode) -> None:
        if end in self._pins:
            del self._pins[end]
            for node in end.path:
                node.pins -= 1

    def trim(self) -> int:
        """Down to the limits; how many bytes that freed. What somebody runs on, pins and the session stay."""
        before, limit = self._held, self.limits.bytes
        most = int(limit * self.limits.snapshots) if self.groups else limit
        for stays in (self._stays, self._is_end):
            for node in list(self._snapshots):
                if self.snapshot_bytes > most and node in self._snapshots and not stays(node):
                    self._drop_snapshot(node)
        for node in list(self._passed):
            if self._passed_bytes > limit * self.limits.windows:
                self._drop_windows(node)
        self.evict(self.idle_bytes - limit)
        if self.idle_bytes > limit and self.bytes_of(self.session) > limit:
            self.session = ()
            self.evict(self.idle_bytes - limit)
        return before - self._held

    def evict(self, wanted: int, everybody: bool = False) -> int:
        """So many bytes, or all that nobody runs on; how many that freed. `everybody`: pins and the session too."""
        before = self._held
        if not self.idle_bytes:
            return 0
        if everybody:
            self._let_everybody_go()
        for drop, nodes in (
            (self._drop_windows, self._passed),
            (self._drop_leaf, self.order),
            (self._drop_snapshot, self._snapshots),  # of those who stay because somebody runs on them
        ):
            for node in list(nodes):
                if before - self._held >= wanted:
                    break
                if node in nodes and (drop == self._drop_windows or not self._stays(node)):
                    drop(node)
        return before - self._held

    def clear(self) -> None:
        """All of it, in use or not: who runs on a page holds it himself."""
        self._let_everybody_go()
        for node in list(self.order):
            self.remove(node)

    def remove(self, node: TreeNode) -> None:
        """This leaf, whoever uses it."""
        assert node.parent is not None
        self.set_snapshot(node, None)
        self._set_passed(node, 0)
        for group in range(len(self.groups)):
            self.set_page(node, group, GONE)
        node.parent.children.remove(node.key)
        self.order.pop(node, None)

    def check(self, nodes: list[TreeNode]) -> None:
        kept = [node for node in nodes if node.snapshot is not None]
        assert set(self._snapshots) == set(kept)
        assert self.snapshot_bytes == sum(node.snapshot.bytes for node in kept if node.snapshot is not None)
        assert self._passed_bytes == sum(self._passed.values())
        assert set(self._passed) <= set(nodes)
        for node in nodes:
            assert node.pins == sum(node in end.path for end in self._pins)

    def _let_everybody_go(self) -> None:
        self.session = ()
        for end in list(self._pins):
            self.unpin(end)

    def _stays(self, node: TreeNode) -> bool:
        return node.pins > 0 or node in self.session

    def _is_end(self, node: TreeNode) -> bool:
        return node in self._pins or node in self.session[-1:]

    def _drop_windows(self, node: TreeNode) -> None:
        for group in self.windowed:
            if self.groups[group][1].is_idle(node.pages[group]):
                self.set_page(node, group, GONE)
                self.evicted.windows += 1
        self._set_passed(node, self._windows_bytes(node))
        self._prune(node)

    def _drop_snapshot(self, node: TreeNode) -> None:
        self._tell(node)
        self.set_snapshot(node, None)
        self.evicted.snapshots += 1
        self._prune(node)

    def _drop_leaf(self, node: TreeNode) -> None:
        if not node.children and self._is_idle(node):
            self._evict_leaf(node)
            self._prune(node.parent)

    def _prune(self, node: TreeNode | None) -> None:
        """The tail that served only what is gone now: nobody could go on from its end."""
        while node is not None and node.parent is not None and not (node.children or self._stays(node)):
            lost = (self.states and node.snapshot is None) or any(node.pages[group] == GONE for group in self.windowed)
            if not lost or not self._is_idle(node):
                return
            self._evict_leaf(node)
            node = node.parent

    def _evict_leaf(self, node: TreeNode) -> None:
        self._tell(node)
        self.remove(node)
        self.evicted.nodes += 1

    def _tell(self, node: TreeNode) -> None:
        if self.leaving is not None:
            self.leaving(node)

    def _is_idle(self, node: TreeNode) -> bool:
        return all(
            page == GONE or pages.is_idle(page) for page, (_, pages) in zip(node.pages, self.groups, strict=True)
        )

    def _set_passed(self, node: TreeNode, size: int) -> None:
        self._passed_bytes += size - self._passed.pop(node, 0)
        if size:
            self._passed[node] = size

    def _windows_bytes(self, node: TreeNode) -> int:
        return sum(self.groups[group][1].page_bytes for group in self.windowed if node.pages[group] != GONE)

    def bytes_of(self, nodes: Iterable[TreeNode]) -> int:
        total = 0
        for node in nodes:
            held = zip(node.pages, self.groups, strict=True)
            total += sum(pages.page_bytes for page, (_, pages) in held if page != GONE)
            total += 0 if node.snapshot is None else node.snapshot.bytes
        return total

    @property
    def _held(self) -> int:
        return sum(pages.used * pages.page_bytes for _, pages in self.groups) + self.snapshot_bytes
