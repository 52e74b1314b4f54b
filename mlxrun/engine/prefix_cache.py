"""The prefix cache: what ended requests left, for prompts that begin alike; the most recent first, in bounded bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..contracts import SequenceMemory
from ..loading.model import Runnable

MOST = 256  # memories, each of which is looked at for every prompt


@dataclass(frozen=True, slots=True)
class PrefixEntry:
    tokens: Sequence[int]
    memory: SequenceMemory
    bytes: int
    scope: str

    def shared(self, tokens: Sequence[int], scope: str) -> int:
        """How many of the tokens this memory could stand for; at least the last one must run."""
        if scope != self.scope:
            return 0
        common = shared_prefix(self.tokens, tokens)
        return self.memory.reusable(min(common, self.memory.length, len(tokens) - 1))


class PrefixCache:
    shares = False  # a memory is whole: what a request reads is nobody else's before it has ended

    def __init__(self, model: Runnable, context: int, limit: int) -> None:
        self._model, self._context, self._limit = model, context, limit
        self._entries: list[PrefixEntry] = []

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self._entries)

    def held(self, running: Sequence[SequenceMemory]) -> int:
        return self.bytes + sum(memory.bytes for memory in running)

    def clear(self) -> None:
        self._entries.clear()

    @property
    def told(self) -> dict[str, float]:
        return {"prefix_memories": len(self._entries), "prefix_idle_bytes": self.bytes}

    def close(self) -> None:
        """Nothing goes to disk."""

    def ready(self, tokens: Sequence[int], scope: str = "", *, idle: bool = False, rate: float = 0.0) -> bool:
        return True

    def shrink(self, wanted: int) -> None:
        """The longest unused first, until so many bytes are gone or nothing is left."""
        least = self.bytes - wanted
        while self._entries and self.bytes > least:
            self._entries.pop()

    def keep(self, tokens: Sequence[int], memory: SequenceMemory, scope: str = "") -> None:
        memory.adapter = None  # who goes on with it says his own; so none is held for what was read with it
        self._entries.insert(0, PrefixEntry(tokens, memory, memory.bytes, scope))
        del self._entries[MOST:]
        while self.bytes > self._limit:
            self._entries.pop()

    def share(self, tokens: Sequence[int], memory: SequenceMemory, scope: str = "", *, state: bool = False) -> None:
        """What was read of the tokens so far may be used by others from now on."""

    def memory_for(self, tokens: Sequence[int], scope: str = "") -> tuple[SequenceMemory, int]:
        """A memory to go on with, and how many of the tokens it holds already."""
        lengths = [entry.shared(tokens, scope) for entry in self._entries]
        best = max(lengths, default=0)
        if best:
            at = lengths.index(best)
            memory = self._branch(self._entries[at], best)
            if memory is None:
                memory = self._entries.pop(at).memory
            if memory.rewind(best):
                return memory, best
        return self._model.new_sequence(self._context), 0

    def _branch(self, entry: PrefixEntry, length: int) -> SequenceMemory | None:
        """A copy, where taking the memory itself would lose more than it saves; None: take it."""
        if 2 * length >= entry.memory.length:
            return None
        return entry.memory.fork()


def shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens they have in common, from the first on; of arrays nothing is copied."""
    length = min(len(one), len(other))
    differs = np.asarray(one, np.int32)[:length] != np.asarray(other, np.int32)[:length]
    return int(differs.argmax()) if differs.any() else length
