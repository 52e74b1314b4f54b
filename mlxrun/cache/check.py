"""That pages, tables and tree agree, to the last count. For tests, and for whoever wants to be sure while he serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .node import TreeNode
from .siblings import WORD
from .table import GONE, Tables
from .tree import PrefixTree


def check_all(tree: PrefixTree, tables: Iterable[Tables]) -> None:
    """`tables`: all that there are. Raises AssertionError where anything is counted wrong, lost, or free and used."""
    running = list(tables)
    for one in running:
        one.check()
    nodes = list(tree.nodes())
    for index, (_, pages) in enumerate(tree.groups):
        kept = Counter(page for node in nodes if (page := node.pages[index]) != GONE)
        used = Counter(page for one in running for page in one.row(index) if page != GONE)
        pages.check(used + kept, kept)
    check_nodes(tree, nodes)
    check_order(tree, nodes)


def check_nodes(tree: PrefixTree, nodes: list[TreeNode]) -> None:
    for node in nodes:
        assert node.parent is not None
        assert node.parent.children.get(node.key) is node
        assert node.end == node.parent.end + len(node.key) // WORD
        assert 0 < len(node.key) <= tree.size * WORD
        assert node.end % tree.size == 0 or not node.children, "nothing comes after a part of a page"
        assert node.snapshot is None or (tree.states and node.snapshot.length == node.end)
        far = [page for page, (group, _) in zip(node.pages, tree.groups, strict=True) if group.remembers_all]
        assert GONE not in far, "what reaches far is unbroken"
        node.children.check()


def check_order(tree: PrefixTree, nodes: list[TreeNode]) -> None:
    order = {node: place for place, node in enumerate(tree.eviction.order)}
    assert set(order) == set(nodes)
    for node in nodes:
        assert all(order[child] < place for place in [order[node]] for child in node.children), "leaves first"
    tree.eviction.check(nodes)
