"""A model small enough to read: the next token is the sum of all tokens so far, modulo the vocabulary.

So every token depends on the whole history, and a memory that holds too much or too little shows at once.
"""

from __future__ import annotations

import mlx.core as mx

from mlxrun.loading.model import Holdings
from mlxrun.ops.adapters import Adapter
from mlxrun.ops.device import this_device


class FakeMemory:
    def __init__(self, context: int) -> None:
        self.context, self.ids = context, mx.zeros((0,), mx.int32)
        self.length = 0
        self.adapter: Adapter | None = None
        self.layers: tuple[None, ...] = ()
        self.store, self.points = None, ()

    @property
    def bytes(self) -> int:
        return self.ids.nbytes

    def reusable(self, length: int) -> int:
        return length

    def rewind(self, length: int) -> bool:
        self.ids, self.length = self.ids[:length], length
        return True

    def fork(self) -> FakeMemory:
        other = FakeMemory(self.context)
        other.ids, other.length = self.ids, self.length
        return other

    def arrays(self) -> list[mx.array]:
        return [self.ids]


class FakeModel:
    vocab, context, notes, holdings, device = 97, 4096, (), Holdings(), this_device()

    def __init__(self) -> None:
        self.passes: list[int] = []  # rows of every pass
        self.shapes: list[list[int]] = []  # rows of each sequence in every pass

    def new_sequence(self, context: int | None = None) -> FakeMemory:
        return FakeMemory(context or self.context)

    def prefixes(self, context: int, limit: int) -> None:
        """A memory is had whole or not at all."""

    @property
    def paged_bytes(self) -> int:
        return 0

    def give_back(self) -> None:
        """MLX has all of it."""

    def rank(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]], types: mx.array) -> mx.array:
        raise AssertionError("it has no head")

    def __call__(self, ids: mx.array, sequences: list[tuple[FakeMemory, int]]) -> mx.array:
        self.passes.append(ids.size)
        self.shapes.append([count for _, count in sequences])
        sums, start = [], 0
        for memory, count in sequences:
            memory.ids = mx.concatenate([memory.ids, ids[start : start + count]])
            memory.length += count
            sums.append(mx.cumsum(memory.ids)[-count:, None])
            start += count
        assert start == ids.size
        return mx.concatenate(sums)

    def logits(self, hidden: mx.array) -> mx.array:
        return 30.0 * (mx.arange(self.vocab) == hidden % self.vocab)

    def best(self, hidden: mx.array) -> mx.array | None:
        return None


def continuation(prompt: list[int], count: int, vocab: int = FakeModel.vocab) -> list[int]:
    """What the fake model says, in plain Python."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(sum(tokens) % vocab)
    return tokens[len(prompt) :]
