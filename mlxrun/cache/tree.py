"""The prefix tree: which pages and states there are for prompts that begin alike.

A level is a page of tokens, found by comparing all of them. A hit is the deepest length where every group of layers has
what a query there sees and, where the model has recurrent states, one was kept: what reaches far is unbroken, and of a
window its last pages are there. Knows no model and holds no keys: a hit is a table of pages, shared from then on.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .evict import Evicted, Eviction, TreeLimits
from .node import Snapshot, TreeNode
from .siblings import WORD, Key
from .table import GONE, PagedGroups, Tables


@dataclass(frozen=True, slots=True)
class Hit:
    length: int  # tokens that need not run
    tables: Tables  # the sequence's own from now on
    snapshot: Snapshot | None = None  # of the recurrent states at `length`
    known: int = 0  # tokens that were found. More than `length`: a state there would serve others who begin alike


@dataclass(frozen=True, slots=True)
class TreeStatistics:
    nodes: int
    bytes: int
    idle_bytes: int  # of what nobody runs on
    snapshot_bytes: int
    pinned_bytes: int
    asked: int  # prompts
    hits: int
    tokens_asked: int
    tokens_matched: int
    doubles: int  # pages that were made twice and became one
    evicted: Evicted


class Stand(NamedTuple):
    """Where a sequence could go on: at `length`, which lies in the node that is last in its path."""

    length: int
    path: list[TreeNode]


class PrefixTree:
    def __init__(self, size: int, groups: PagedGroups, states: bool, limits: TreeLimits) -> None:
        """`size`: positions a page. `states`: the model has recurrent layers, so it goes on from snapshots alone."""
        if any(pages.size != size for _, pages in groups):
            raise ValueError(f"The tree's pages have {size} positions, and those of a group have not.")
        self.size, self.groups, self.states = size, groups, states
        self.eviction = Eviction(groups, states, limits)
        self._page = size * WORD  # bytes of a page's key
        self._roots: dict[Hashable, TreeNode] = {}
        self._asked = self._hits = self._tokens_asked = self._tokens_matched = self._doubles = 0

    @property
    def bytes(self) -> int:
        return self.eviction.bytes

    @property
    def idle_bytes(self) -> int:
        return self.eviction.idle_bytes

    @property
    def scopes(self) -> int:
        return len(self._roots)

    @property
    def statistics(self) -> TreeStatistics:
        kept = self.eviction
        return TreeStatistics(
            nodes=len(kept.order),
            bytes=kept.bytes,
            idle_bytes=kept.idle_bytes,
            snapshot_bytes=kept.snapshot_bytes,
            pinned_bytes=kept.pinned_bytes,
            asked=self._asked,
            hits=self._hits,
            tokens_asked=self._tokens_asked,
            tokens_matched=self._tokens_matched,
            doubles=self._doubles,
            evicted=replace(kept.evicted),
        )

    def match(self, tokens: Sequence[int], most: int, scope: Hashable = None) -> Hit:
        """The most of the first `most` tokens that somebody left behind. Who has the last one run, asks for one less.

        `scope`: all else that what is remembered depends on, or that may not be shared.
        """
        ids = array("i", tokens[:most]).tobytes()
        stand, known = self._deepest(ids, scope)
        self._asked += 1
        self._tokens_asked += most
        if stand is None:
            return Hit(0, Tables(self.groups), None, known)
        self._hits += 1
        self._tokens_matched += stand.length
        return self._adopt(stand, known)

    def insert(
        self,
        tokens: Sequence[int],
        tables: Tables,
        snapshots: Sequence[Snapshot] = (),
        scope: Hashable = None,
        ended: bool = False,
    ) -> None:
        """What a sequence has of these tokens: whole pages, and where it `ended` or a state was kept parts of one.

        May be called after every pass: only what is new is added, and where nothing is, nothing is done. A page that is
        here already takes the place of the sequence's own, which nobody is going to write to.
        """
        length = min(len(tokens), tables.length)
        if length // self.size <= tables.inserted and not ended and not snapshots:
            return
        tables.inserted = length // self.size
        ends = {snapshot.length: snapshot for snapshot in snapshots if 0 < snapshot.length <= length}
        if not self.groups:
            length = max(ends, default=0)  # without keys, what comes after the last state is of no use
        ids = array("i", tokens[:length]).tobytes()
        root = self._roots.setdefault(scope, TreeNode(None, b"", len(self.groups), scope))
        path, old = self._insert_pages(root, ids, tables)
        for end, snapshot in ends.items():
            node = self._insert_end([root, *path], ids, end, tables, own=True)
            self.eviction.touch(node)
            if node.snapshot is None:
                self.eviction.set_snapshot(node, snapshot)
        last = self._insert_end([root, *path], ids, length, tables, own=False) if ended else [root, *path][-1]
        if ended and last is not root:
            went_on = any(node.ended for node in path if node is not last)
            if went_on or (last.ended and last not in self.eviction.order):
                self.eviction.set_session(last)
                for node in self.eviction.session:
                    node.hit = True
            last.ended = True
        self.eviction.touch(last)
        self._age_windows(path, old)

    def trim(self) -> int:
        """Down to the limits, as when a request has ended; how many bytes that freed."""
        freed = self.eviction.trim()
        self._forget_empty_roots()
        return freed

    def evict(self, wanted: int, everybody: bool = False) -> int:
        """So many bytes, or all that nobody runs on; how many that freed.

        `everybody`: what is pinned and the session that went on last, too.
        """
        freed = self.eviction.evict(wanted, everybody) if wanted > 0 else 0
        self._forget_empty_roots()
        return freed

    def clear(self) -> None:
        """Forgets everything. Who runs on a page keeps it."""
        self.eviction.clear()
        self._forget_empty_roots()

    def pin(self, tokens: Sequence[int], scope: Hashable = None) -> int:
        """How many of these tokens stay from now on; 0 where they are not here, or more than may be pinned."""
        stand, _ = self._deepest(array("i", tokens).tobytes(), scope)
        if stand is None or not self.eviction.pin(stand.path[-1]):
            return 0
        self.eviction.keep_windows(self._seen(stand))
        return stand.length

    def unpin(self, tokens: Sequence[int], scope: Hashable = None) -> None:
        stand, _ = self._deepest(array("i", tokens).tobytes(), scope)
        if stand is not None:
            self.eviction.unpin(stand.path[-1])

    def nodes(self) -> Iterator[TreeNode]:
        """Parents before their children."""
        found = [child for root in self._roots.values() for child in root.children]
        while found:
            node = found.pop()
            yield node
            found.extend(node.children)

    def length(self, ids: Key, scope: Hashable = None) -> int:
        """After how many of these tokens a sequence could go on. Changes nothing."""
        stand, _ = self._deepest(ids, scope)
        return 0 if stand is None else stand.length

    def whole_pages(self, ids: Key, scope: Hashable = None) -> list[TreeNode]:
        """The nodes of the pages that these tokens fill, as far as they are here. Changes nothing."""
        path: list[TreeNode] = []
        node = self._roots.get(scope)
        for start in range(0, len(ids) - self._page + 1, self._page):
            node = None if node is None else node.children.get(ids[start : start + self._page])
            if node is None:
                break
            path.append(node)
        return path

    def _deepest(self, ids: Key, scope: Hashable) -> tuple[Stand | None, int]:
        """Where a sequence of these tokens could go on, and how many of them are here at all."""
        root = self._roots.get(scope)
        if root is None:
            return None, 0
        path = self.whole_pages(ids, scope)
        node = path[-1] if path else root
        near = node.children.nearest(ids[node.end * WORD :][: self._page])
        known = node.end + (near[0][0] if near else 0)
        return next(self._stands([root, *path], ids, near), None), known

    def _stands(self, path: list[TreeNode], ids: Key, near: list[tuple[int, TreeNode]]) -> Iterator[Stand]:
        """All of them, the deepest first. `near`: children of the last in the path that begin like what comes next."""
        runs = self._window_runs(path)
        for depth in range(len(path) - 1, -1, -1):
            node, parts = path[depth], near
            if self.states or depth < len(path) - 1:
                parts = [
                    (len(c.key) // WORD, c) for c in node.children.beginnings(ids[node.end * WORD :][: self._page])
                ]
            for count, child in parts:
                if self._stands_at(node.end + count, child, runs, depth):
                    yield Stand(node.end + count, [*path[1 : depth + 1], child])
            if depth and self._stands_at(node.end, node, runs, depth - 1):
                yield Stand(node.end, path[1 : depth + 1])

    def _stands_at(self, length: int, last: TreeNode, runs: dict[int, list[int]], number: int) -> bool:
        """Whether a query at `length`, in the page `number` that `last` holds, has all that it needs.

        With states that is the end of `last`.
        """
        if self.states and last.snapshot is None:
            return False
        for index, run in runs.items():
            needed = self.groups[index][0].needed(length, self.size)
            if needed and (last.pages[index] == GONE or (needed.start < number and run[number] > needed.start)):
                return False
        return True

    def _window_runs(self, path: list[TreeNode]) -> dict[int, list[int]]:
        """By group that forgets: the number of the first of the pages that lie unbroken before that number."""
        runs: dict[int, list[int]] = {}
        for index in self.eviction.windowed:
            runs[index] = run = [0]
            for node in path[1:]:
                run.append(run[-1] if node.pages[index] != GONE else node.number + 1)
        return runs

    def _seen(self, stand: Stand) -> list[TreeNode]:
        """The nodes whose window pages a query there sees."""
        return stand.path[self._visible(stand.length) :]

    def _visible(self, length: int) -> int:
        """Number of the first page that a window of ours sees from there."""
        starts = [self.groups[index][0].needed(length, self.size).start for index in self.eviction.windowed]
        return min(starts, default=0)

    def _adopt(self, stand: Stand, known: int) -> Hit:
        rows = []
        for index, (group, _) in enumerate(self.groups):
            needed = group.needed(stand.length, self.size)
            rows.append(
                [GONE] * min(needed.start, needed.stop) + [stand.path[number].pages[index] for number in needed]
            )
        node = stand.path[-1]
        for one in stand.path:
            one.hit = True
        self.eviction.touch(node)
        self.eviction.used_windows(self._seen(stand))
        if self.states:
            self.eviction.used_snapshot(node)
        return Hit(
            stand.length, Tables.of(self.groups, rows, stand.length), node.snapshot if self.states else None, known
        )

    def _insert_pages(self, root: TreeNode, ids: Key, tables: Tables) -> tuple[list[TreeNode], int]:
        """The nodes of the whole pages, and the number of the first of them that has something new."""
        path: list[TreeNode] = []
        node, old = root, None
        for number in range(len(ids) // self._page):
            key = ids[number * self._page : (number + 1) * self._page]
            child = node.children.get(key)
            fresh = child is None
            node = child or self._new_child(node, key)
            joined = [self._join(node, index, number, tables) for index in range(len(self.groups))]
            if fresh:
                self._lend_to_shorter(node)
            if old is None and (fresh or any(joined)):
                old = number
            path.append(node)
        return path, len(path) if old is None else old

    def _insert_end(self, path: list[TreeNode], ids: Key, length: int, tables: Tables, own: bool) -> TreeNode:
        """The node where `length` is; a part of a page may lie in a longer one, if it need not be its `own`."""
        parent = path[length // self.size]
        key = ids[parent.end * WORD : length * WORD]
        if not key:
            return parent
        child, longer = parent.children.get(key), parent.children.longer(key)
        if child is None and longer is not None and not own:
            return longer
        node = child or self._new_child(parent, key)
        for index in range(len(self.groups)):
            if node.pages[index] == GONE:
                page = GONE if longer is None else longer.pages[index]
                page = tables.row(index)[node.number] if page == GONE else page
                self.eviction.set_page(node, index, page)
        if child is None:
            self._lend_to_shorter(node)
        return node

    def _new_child(self, node: TreeNode, key: Key) -> TreeNode:
        """Parts of its page that are only the beginning of it, and of no use besides, go."""
        child = TreeNode(node, key, len(self.groups), node.scope)
        for shorter in list(node.children.beginnings(key)):
            child.ended |= shorter.ended
            if shorter.snapshot is None and not shorter.pins:
                self.eviction.remove(shorter)
        if node.children and self.eviction.windowed and node.parent is not None:
            self.eviction.keep_windows(node.path[self._visible(node.end) :])
        node.children.add(key, child)
        return child

    def _lend_to_shorter(self, node: TreeNode) -> None:
        """Parts of its page that stay need none of their own."""
        assert node.parent is not None
        for shorter in node.parent.children.beginnings(node.key):
            for index, page in enumerate(node.pages):
                if page != GONE and shorter is not node:
                    self.eviction.set_page(shorter, index, page)

    def _join(self, node: TreeNode, index: int, number: int, tables: Tables) -> bool:
        """A page that the node lacks becomes its own; one that it has takes the place of the sequence's."""
        page, ours = tables.row(index)[number], node.pages[index]
        if page in (GONE, ours):
            return False
        if ours == GONE:
            self.eviction.set_page(node, index, page)
            return True
        tables.use(index, number, ours)
        self._doubles += 1
        return False

    def _age_windows(self, path: list[TreeNode], old: int) -> None:
        """The window pages that were seen before these nodes came, and are not seen from their end."""
        if self.eviction.windowed and old < len(path):
            seen_before, seen = self._visible(old * self.size), self._visible(len(path) * self.size)
            self.eviction.passed_windows(path[seen_before:seen])

    def _forget_empty_roots(self) -> None:
        for scope in [scope for scope, root in self._roots.items() if not root.children]:
            del self._roots[scope]
