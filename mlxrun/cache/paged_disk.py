"""Pages of a store and states of its sequences, as the second tier of the prefix cache reads and writes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..ops.adapters import Adapter, adapter_in
from .disk import DiskTier, block_of
from .disk_prefixes import DiskPrefixes
from .files import PageLayout
from .node import Snapshot
from .paged import PagedSequence, StateSnapshot
from .prefixes import SharedPrefixes
from .restore import PageBytes
from .state_bytes import state_bytes, states_of
from .store import PagedStore
from .table import Tables

ROWS = 16  # that are computed again
Run = Callable[[mx.array, list[tuple[Any, int]]], mx.array]


@dataclass(frozen=True, slots=True)
class PrefixFolder:
    """Where prefixes of one model are kept: `fingerprint` is of its weights and of how they are computed with."""

    folder: Path
    fingerprint: str
    most: int  # bytes


def add_disk(
    prefixes: SharedPrefixes[PagedSequence],
    store: PagedStore,
    wish: PrefixFolder,
    run: Run,
    adapters: Collection[Adapter] = (),
) -> None:
    """`run`: a pass of the model, which has these adapters. DiskRefused: the folder cannot be used."""
    tree = prefixes.tree
    sizes = tuple((group.name, ids.page_bytes) for group, ids in store.groups)
    layout = PageLayout(wish.fingerprint, tree.size, block_of(size for _, size in sizes), sizes)
    tier = DiskTier(wish.folder, layout, [group for group, _ in store.groups], tree.states, wish.most)

    def recheck(tokens: Sequence[int], tables: Tables, snapshots: Sequence[Snapshot], scope: Hashable) -> bool | None:
        return None if tree.states else same_again(store, tokens, tables, run, adapter_in(str(scope), adapters))

    prefixes.disk = DiskPrefixes(tree, tier, PageBytes(store.read, store.write, bytes_of, snapshot_of, recheck))


def same_again(
    store: PagedStore, tokens: Sequence[int], tables: Tables, run: Run, adapter: Adapter | None = None
) -> bool | None:
    """Whether the last rows, computed again from all before them, are bit by bit what lies in their page.

    None: that page begins with the last of them, or a window would miss something, or rows of pictures are among them:
    what these are known by (below 0) is no token.
    """
    length = len(tokens)
    first = max(length - ROWS, (length - 1) // tables.size * tables.size + 1)
    begin = next((at for at in range(first, length) if tables.reusable(at) == at), None)
    if begin is None or min(tokens[begin:]) < 0:
        return None
    again = PagedSequence(store, length, tables.fork())
    again.rewind(begin)
    again.adapter = adapter
    mx.eval(run(mx.array(list(tokens[begin:]), mx.int32), [(again, length - begin)]))
    last = (length - 1) // tables.size
    pairs = [(index, tables.row(index)[last], again.tables.row(index)[last]) for index in range(len(store.groups))]
    return all(store.read(index, page) == store.read(index, other) for index, page, other in pairs)


def bytes_of(snapshot: Snapshot) -> bytes:
    assert isinstance(snapshot, StateSnapshot)
    return state_bytes(snapshot.states)


def snapshot_of(length: int, content: bytes) -> StateSnapshot:
    return StateSnapshot(length, states_of(content))
