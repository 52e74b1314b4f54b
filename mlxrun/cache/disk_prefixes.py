"""Between the prefix tree and the disk: what goes there, and when it is worth fetching. On the engine's thread.

What leaves the tree is written if somebody went on from it, or it was pinned; so is all that ended or was gone on from,
when the engine stops.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

from .disk import DiskTier
from .files import DiskSegment
from .node import TreeNode, tokens_of
from .restore import PageBytes, Restore, RestoreCounts
from .table import GONE
from .tree import PrefixTree


class DiskPrefixes:
    def __init__(self, tree: PrefixTree, tier: DiskTier, store: PageBytes) -> None:
        self.tree, self.tier, self._store = tree, tier, store
        self.counts = RestoreCounts()
        tree.eviction.leaving = self._leaving

    def restore(self, tokens: Sequence[int], most: int, scope: Hashable = None, rate: float = 0.0) -> Restore | None:
        """To be advanced until it is done, if more of the first `most` tokens is on disk than in memory.

        `rate`: tokens a second that are computed. Where that is quicker than reading, nothing is read.
        """
        ids = array("i", tokens[:most]).tobytes()
        found, in_memory = self.tier.find(ids, scope), self.tree.length(ids, scope)
        if found is None or found.length <= in_memory:
            return None
        made = Restore(self.tree, self.tier, self._store, found, scope, self.counts)
        if rate and self.tier.seconds(made.to_read) > (found.length - in_memory) / rate:
            self.counts.slower += 1
        elif made.begin():
            return made
        else:
            self.counts.no_room += 1
        return None

    def write_all(self) -> None:
        """The last used first, as much as may be there; all of it is on the disk then."""
        written = 0
        for leaf in reversed(list(self.tree.eviction.order)):
            if not len(leaf.children) and (leaf.ended or leaf.hit or leaf.pins) and written < self.tier.most:
                for segment, nodes in self._missing(leaf):
                    written += self.tree.eviction.bytes_of(nodes)
                    self._write(segment, nodes).result()

    def _leaving(self, node: TreeNode) -> None:
        if (node.hit or node.pins) and not node.stored:
            for segment, nodes in self._missing(node):
                if not self.tier.takes(self.tree.eviction.bytes_of(nodes)):
                    return  # what comes after it would not be found
                self._write(segment, nodes)

    def _missing(self, end: TreeNode) -> Iterator[tuple[DiskSegment, list[TreeNode]]]:
        """What of a path is not on disk yet, block after block: who follows is found by who comes before."""
        layout, root, parent = self.tier.layout, self.tier.root(end.scope), ""
        path = end.path
        for start in range(0, len(path), layout.block):
            nodes = path[start : start + layout.block]
            segment = DiskSegment(
                layout=layout,
                root=root,
                parent=parent,
                begun=start * layout.size,
                tokens=tokens_of(nodes),
                pages=tuple(tuple(page != GONE for page in node.pages) for node in nodes),
                states=tuple((node.end, node.snapshot.bytes) for node in nodes if node.snapshot is not None),
            )
            parent = segment.name
            if not all(node.stored for node in nodes) or not self.tier.has(parent):
                yield segment, nodes

    def _write(self, segment: DiskSegment, nodes: list[TreeNode]) -> Future[None]:
        parts = [
            bytes(self._store.read(index, page))
            for node in nodes
            for index, page in enumerate(node.pages)
            if page != GONE
        ]
        kept = [(node.end, self._store.state_bytes(node.snapshot)) for node in nodes if node.snapshot is not None]
        states = tuple((length, len(content)) for length, content in kept)
        for node in nodes:
            node.stored = True
        return self.tier.write(replace(segment, states=states), parts + [content for _, content in kept])
