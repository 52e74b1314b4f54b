"""The prefix cache over pages, as an engine sees it: what others have read is shared while they run, and kept after.

Knows no model. What makes a sequence of a hit is handed in, and what a sequence has of pages and states it tells.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from .node import Snapshot
from .table import Tables
from .tree import Hit, PrefixTree


class SharedMemory(Protocol):
    """A sequence whose keys lie in pages."""

    length: int
    tables: Tables

    @property
    def state_bytes(self) -> int:
        """Of what is not in pages."""

    def snapshot(self) -> Snapshot | None:
        """The recurrent states as they stand, in arrays that never change; None: the model has none."""

    def release(self) -> None:
        """Gives its pages back."""


Memory = TypeVar("Memory", bound=SharedMemory)


class SharedPrefixes(Generic[Memory]):
    shares = True

    def __init__(self, tree: PrefixTree, begin: Callable[[Hit, int], Memory]) -> None:
        """`begin`: a sequence for a prompt of so many tokens that goes on from a hit, and owns its table."""
        self.tree, self._begin = tree, begin

    @property
    def bytes(self) -> int:
        """Of what nobody runs on."""
        return self.tree.idle_bytes

    def held(self, running: Sequence[Memory]) -> int:
        """Bytes of these and of what is kept, those that they share once."""
        pages = sum(ids.bytes for _, ids in self.tree.groups)
        return pages + self.tree.statistics.snapshot_bytes + sum(memory.state_bytes for memory in running)

    def memory_for(self, tokens: Sequence[int], scope: Hashable = None) -> tuple[Memory, int]:
        """A memory to go on with, and how many of the tokens it holds already; at least the last one must run."""
        hit = self.tree.match(tokens, len(tokens) - 1, scope)
        return self._begin(hit, len(tokens)), hit.length

    def share(self, tokens: Sequence[int], memory: Memory, scope: Hashable = None, state: bool = False) -> None:
        """What was read so far is others' too from now on; `state`: they may go on from where it stands."""
        self._commit(tokens, memory)
        self.tree.insert(tokens, memory.tables, self._snapshots(memory) if state else (), scope)

    def keep(self, tokens: Sequence[int], memory: Memory, scope: Hashable = None) -> None:
        """It ended; what it had is kept as far as there is room, and is not its own any more."""
        self._commit(tokens, memory)
        self.tree.insert(tokens, memory.tables, self._snapshots(memory), scope, ended=True)
        memory.release()
        self.tree.trim()

    def shrink(self, wanted: int) -> None:
        """So many bytes must go, or all that nobody runs on."""
        self.tree.evict(wanted - self.tree.evict(wanted), everybody=True)

    def clear(self) -> None:
        self.tree.clear()

    def _commit(self, tokens: Sequence[int], memory: Memory) -> None:
        """What was read stands; what was only launched may still be taken back."""
        read = min(memory.length, len(tokens))
        memory.tables.commit(max(read, memory.tables.length))

    def _snapshots(self, memory: Memory) -> Sequence[Snapshot]:
        snapshot = memory.snapshot()
        return () if snapshot is None else (snapshot,)
