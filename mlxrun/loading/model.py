"""A loaded model as the engine holds it: run rows, get logits, start a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import mlx.core as mx

from ..cache.sequence import SequenceCache
from ..core import RequestError
from ..memory.headroom import Budget
from ..memory.sequence import sequence_bytes
from ..nn.batch import SequenceMemory
from ..nn.decoder import DecoderModel
from ..spec import Decoder
from .expert_offload import ExpertOffload


class Runnable(Protocol):
    """What the engine needs of a model, whoever wrote its blocks."""

    @property
    def vocab(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def new_sequence(self, context: int | None = None) -> Any:
        """A memory: length, reusable, rewind, arrays; snapshot and restore where a part can be reused."""

    def __call__(self, ids: mx.array, sequences: Sequence[tuple[Any, int]]) -> mx.array:
        """(T,) -> (T, hidden). `sequences`: each memory and how many of the rows are its own."""

    def logits(self, hidden: mx.array) -> mx.array: ...

    def best(self, hidden: mx.array) -> mx.array | None:
        """The token of the largest logit of each row, -1 where one is not a number. None: take it from `logits`."""


@dataclass(frozen=True)
class Model:
    decoder: DecoderModel
    notes: tuple[str, ...] = field(default=())  # what a person should know about this load
    fitting: int | None = None  # the context that memory is enough for, where a plan was made
    budget: Budget | None = None
    before: int = 0  # bytes that the process took before it loaded this
    widths: tuple[int, int | None] = (4, None)  # bytes of a value that is computed, and of a key where narrower
    mapped: tuple[Any, ...] = field(default=(), repr=False)  # files that the weights are views of
    offload: ExpertOffload | None = field(default=None, repr=False)  # of experts that stay on disk

    @property
    def spec(self) -> Decoder:
        return self.decoder.spec

    @property
    def vocab(self) -> int:
        return self.spec.vocab

    @property
    def context(self) -> int:
        return self.spec.context if self.fitting is None else min(self.spec.context, self.fitting)

    def new_sequence(self, context: int | None = None) -> SequenceCache:
        return SequenceCache(self.spec, context or self.context)

    def __call__(self, ids: mx.array, sequences: Sequence[tuple[SequenceMemory, int]]) -> mx.array:
        return self.decoder(ids, sequences)

    def logits(self, hidden: mx.array) -> mx.array:
        return self.decoder.logits(hidden)

    def best(self, hidden: mx.array) -> mx.array | None:
        return self.decoder.best(hidden)

    def remembers(self, tokens: int, rows: int) -> int:
        """Bytes of a sequence of that length which was read `rows` at a time."""
        return sequence_bytes(self.spec, tokens, self.widths[0], rows, self.widths[1])


@dataclass(frozen=True)
class Unloaded:
    """What is left of a model when its engine is closed: enough to be looked at."""

    vocab: int
    context: int
    notes: tuple[str, ...]

    def new_sequence(self, context: int | None = None) -> Any:
        raise RequestError("The model is unloaded.")

    def __call__(self, ids: mx.array, sequences: Sequence[tuple[Any, int]]) -> mx.array:
        raise RequestError("The model is unloaded.")

    def logits(self, hidden: mx.array) -> mx.array:
        raise RequestError("The model is unloaded.")

    def best(self, hidden: mx.array) -> mx.array | None:
        raise RequestError("The model is unloaded.")
