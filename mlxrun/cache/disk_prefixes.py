"""Between the prefix tree and the disk: what goes there, and when it is worth fetching. On the engine's thread.

What leaves the tree is written if somebody went on from it, or it was pinned; so is all that ended or was gone on from,
when the engine stops.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future

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
            if not len(leaf.children) and (leaf.ended or leaf.hit or leaf.pins):
                for node in self._block_ends(leaf):
                    if not node.stored and written < self.tier.most:
                        written += self._bytes(node)
                        self._write(node).result()

    def _leaving(self, node: TreeNode) -> None:
        if (node.hit or node.pins) and not node.stored and self.tier.takes(self._bytes(node)):
            self._write(node)

    def _block_ends(self, leaf: TreeNode) -> Iterator[TreeNode]:
        block = self.tier.layout.block
        return (node for node in leaf.path if node is leaf or node.number % block == block - 1)

    def _block(self, node: TreeNode) -> list[TreeNode]:
        """The pages of its segment, which it ends."""
        path, block = node.path, self.tier.layout.block
        return path[node.number // block * block :]

    def _bytes(self, node: TreeNode) -> int:
        return self.tree.eviction.bytes_of(self._block(node))

    def _write(self, node: TreeNode) -> Future[None]:
        block = self._block(node)
        parts = [
            bytes(self._store.read(index, page))
            for one in block
            for index, page in enumerate(one.pages)
            if page != GONE
        ]
        parts += [self._store.state_bytes(one.snapshot) for one in block if one.snapshot is not None]
        for one in block:
            one.stored = True
        return self.tier.write(self._segment(node.path, block), parts)

    def _segment(self, path: list[TreeNode], block: list[TreeNode]) -> DiskSegment:
        layout, root, parent = self.tier.layout, self.tier.root(path[0].scope), ""
        for start in range(0, block[0].number, layout.block):
            tokens = tokens_of(path[start : start + layout.block])
            parent = DiskSegment(layout, root, parent, start * layout.size, tokens, ()).name
        return DiskSegment(
            layout=layout,
            root=root,
            parent=parent,
            begun=block[0].number * layout.size,
            tokens=tokens_of(block),
            pages=tuple(tuple(page != GONE for page in one.pages) for one in block),
            states=tuple((one.end, one.snapshot.bytes) for one in block if one.snapshot is not None),
        )
