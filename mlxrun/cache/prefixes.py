"""The prefix cache over pages, as an engine sees it: what others have read is shared while they run, and kept after.

Knows no model. What makes a sequence of a hit is handed in, and what a sequence has of pages and states it tells.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields
from typing import Any, Generic, Protocol, TypeVar

from .disk_prefixes import DiskPrefixes
from .node import Snapshot
from .restore import Restore
from .siblings import Key
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


WAIT = 0.02  # seconds


class SharedPrefixes(Generic[Memory]):
    shares = True

    disk: DiskPrefixes | None = None

    def __init__(
        self, tree: PrefixTree, begin: Callable[[Hit, int], Memory], begin_anew: Callable[[], None] = lambda: None
    ) -> None:
        """`begin`: a sequence for a prompt of so many tokens that goes on from a hit, and owns its table.

        `begin_anew`: what was under way when all was cleared is not waited for."""
        self.tree, self._begin, self._begin_anew = tree, begin, begin_anew
        self._fetching: dict[tuple[Hashable, Key], Restore] = {}

    @property
    def bytes(self) -> int:
        """Of what nobody runs on."""
        return self.tree.idle_bytes

    def held(self, running: Sequence[Memory]) -> int:
        """Bytes of these and of what is kept, those that they share once."""
        pages = sum(ids.bytes for _, ids in self.tree.groups)
        return pages + self.tree.statistics.snapshot_bytes + sum(memory.state_bytes for memory in running)

    @property
    def told(self) -> dict[str, float]:
        """What there is, and what was counted since the beginning."""
        tree = self.tree.statistics
        told: dict[str, float] = {f"pages_{group.name}": pages.used for group, pages in self.tree.groups}
        told |= {f"prefix_{name}": value for name, value in numbers(tree).items()}
        told |= {f"prefix_evicted_{name}": value for name, value in numbers(tree.evicted).items()}
        if self.disk is not None:
            disk = self.disk.tier.statistics
            told |= {f"disk_{name}": value for name, value in numbers(disk).items()}
            told |= {f"disk_{name}": value for name, value in numbers(self.disk.counts).items()}
            told["disk_dropped"] = sum(disk.dropped.values())
        return told

    def ready(self, tokens: Sequence[int], scope: Hashable = "", *, idle: bool = False, rate: float = 0.0) -> bool:
        """False: some of these tokens are just coming from the disk, so ask again after the next pass.

        `idle`: there is no next pass. Then a moment is waited for them.
        """
        for key, restore in list(self._fetching.items()):
            if idle:
                restore.wait(WAIT)
            if restore.advance():
                del self._fetching[key]
        if self.disk is None:
            return True
        if not self.disk.tier.has_looked(WAIT if idle else 0.0):
            return False
        key = (scope, array("i", tokens).tobytes())
        if key not in self._fetching and (begun := self.disk.restore(tokens, len(tokens) - 1, scope, rate)):
            self._fetching[key] = begun
        return key not in self._fetching

    def memory_for(self, tokens: Sequence[int], scope: Hashable = "") -> tuple[Memory, int]:
        """A memory to go on with, and how many of the tokens it holds already; at least the last one must run."""
        hit = self.tree.match(tokens, len(tokens) - 1, scope)
        return self._begin(hit, len(tokens)), hit.length

    def share(self, tokens: Sequence[int], memory: Memory, scope: Hashable = "", *, state: bool = False) -> None:
        """What was read so far is others' too from now on; `state`: they may go on from where it stands."""
        self._commit(tokens, memory)
        self.tree.insert(tokens, memory.tables, self._snapshots(memory) if state else (), scope)

    def keep(self, tokens: Sequence[int], memory: Memory, scope: Hashable = "") -> None:
        """It ended; what it had is kept as far as there is room, and is not its own any more."""
        self._commit(tokens, memory)
        self.tree.insert(tokens, memory.tables, self._snapshots(memory), scope, ended=True)
        memory.release()
        self.tree.trim()

    def shrink(self, wanted: int) -> None:
        """So many bytes must go, or all that nobody runs on."""
        self.tree.evict(wanted - self.tree.evict(wanted), everybody=True)

    def clear(self) -> None:
        """Nothing that is in memory is believed."""
        self._cancel()
        self.tree.clear()
        self._begin_anew()

    def close(self) -> None:
        """What is kept goes to disk, if there is one for it."""
        self._cancel()
        if self.disk is not None:
            self.disk.write_all()
            self.disk.tier.close()
            self.disk = None

    def _cancel(self) -> None:
        for restore in self._fetching.values():
            restore.cancel()
        self._fetching.clear()

    def _commit(self, tokens: Sequence[int], memory: Memory) -> None:
        """What was read stands; what was only launched may still be taken back."""
        read = min(memory.length, len(tokens))
        memory.tables.commit(max(read, memory.tables.length))

    def _snapshots(self, memory: Memory) -> Sequence[Snapshot]:
        snapshot = memory.snapshot()
        return () if snapshot is None else (snapshot,)


def numbers(of: Any) -> dict[str, int]:
    """The fields of a dataclass that are."""
    return {one.name: value for one in fields(of) if isinstance(value := getattr(of, one.name), int)}
