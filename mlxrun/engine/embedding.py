"""Vectors of texts, computed on the engine's thread between the passes of those who speak: one pass at a time.

A pass holds several short texts, or a part of a long one where later rows see only earlier ones. What breaks ends its
job alone. Knows no text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..core import ContextError, Pooling, RequestError
from ..loading.model import Runnable
from .adapters import new_sequence

ROWS = 512  # of a pass, where a text is no longer
BROKEN = (RuntimeError, ValueError, TypeError, ArithmeticError, MemoryError)  # what a pass may raise
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class EmbeddingJob:
    inputs: tuple[tuple[int, ...], ...]  # token ids, none of them empty
    pooling: Pooling
    both_ways: bool  # every row sees all others: a text goes through the model in one pass
    size: int | None = None  # the vectors are cut to so many numbers
    adapter: str | None = None
    skipped: tuple[int, ...] = ()  # of each how many rows, from the first on, are not pooled; empty: none of any
    steps: tuple[Callable[[Vector], Vector], ...] = ()  # what a vector goes through after that
    done: Future[list[Vector]] = field(default_factory=Future)  # whoever cancels it ends the job within a pass

    def passes(self, model: Runnable) -> Iterator[None]:
        vectors: list[Vector] = []
        for batch in batches(self.inputs):
            if len(batch) == 1 and not self.both_ways:
                rows = [(yield from in_parts(model, batch[0], self.adapter))]
            else:
                rows = together(model, batch, self.adapter)
            skipped = self.skipped[len(vectors) :] or (0,) * len(batch)
            pooled = [pool(hidden, self.pooling, skip) for hidden, skip in zip(rows, skipped, strict=False)]
            mx.eval(pooled)
            vectors += [self._finished(np.array(vector, np.float32)) for vector in pooled]
            yield
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(vectors)

    def _finished(self, vector: Vector) -> Vector:
        for step in self.steps:
            vector = step(vector)
        return unit(vector[: self.size])


class ReadingJob(Protocol):
    """Something that is read at once and whole, a pass at a time, each of which a step of `passes` makes."""

    @property
    def done(self) -> Future[Any]: ...

    def passes(self, model: Runnable) -> Iterator[None]: ...


class Embeddings:
    def __init__(self, model: Runnable) -> None:
        self._model = model
        self._jobs: deque[ReadingJob] = deque()  # from any thread
        self._passes: Iterator[None] | None = None  # of the first job

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def add(self, job: ReadingJob) -> None:
        self._jobs.append(job)

    def step(self) -> bool:
        """One pass, if anybody wants something read."""
        if not self._jobs:
            return False
        job = self._jobs[0]
        try:
            self._passes = self._passes or job.passes(self._model)
            if not job.done.cancelled() and next(self._passes, END) is not END:
                return True
        except BROKEN as error:
            fail(job, error)
        self._jobs.popleft()
        self._passes = None
        return True

    def fail(self, reason: str) -> None:
        """Nobody gets one."""
        self._passes = None
        while self._jobs:
            fail(self._jobs.popleft(), RequestError(reason))


END = object()


def check_inputs(inputs: Sequence[Sequence[int]], vocab: int, context: int) -> None:
    for index, ids in enumerate(inputs):
        if not ids:
            raise RequestError(f"input[{index}] holds no token.")
        if len(ids) > context:
            raise ContextError(f"input[{index}] has {len(ids)} tokens; this model reads at most {context} at once.")
        if not 0 <= min(ids) <= max(ids) < vocab:
            raise RequestError(f"input[{index}] holds a token id outside 0 to {vocab - 1}.")


def fail(job: ReadingJob, error: Exception) -> None:
    if job.done.set_running_or_notify_cancel():
        job.done.set_exception(error)


def batches(inputs: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Neighbours that fit into one pass."""
    batch: list[Sequence[int]] = []
    rows = 0
    for ids in inputs:
        if batch and rows + len(ids) > ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(ids)
        rows += len(ids)
    if batch:
        yield batch


def in_parts(model: Runnable, ids: Sequence[int], adapter: str | None = None) -> Generator[None, None, mx.array]:
    """All rows of one text, so many at a time."""
    memory, parts = new_sequence(model, len(ids), adapter), list[mx.array]()
    for first in range(0, len(ids), ROWS):
        part = ids[first : first + ROWS]
        parts.append(model(mx.array(list(part), mx.int32), [(memory, len(part))]))
        mx.eval(parts[-1], memory.arrays())
        if first + ROWS < len(ids):
            yield
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)


def together(model: Runnable, batch: Sequence[Sequence[int]], adapter: str | None = None) -> list[mx.array]:
    """All rows of each, of one pass."""
    hidden = model(
        mx.array([token for ids in batch for token in ids], mx.int32),
        [(new_sequence(model, len(ids), adapter), len(ids)) for ids in batch],
    )
    ends = np.cumsum([len(ids) for ids in batch]).tolist()
    return [hidden[end - len(ids) : end] for ids, end in zip(batch, ends, strict=True)]


def pool(rows: mx.array, pooling: Pooling, skip: int = 0) -> mx.array:
    """(L, dim) -> (dim,). The first `skip` rows are not averaged, and none of their numbers is the largest."""
    rows = rows.astype(mx.float32)
    if pooling is Pooling.FIRST:
        return rows[0]
    if pooling is Pooling.LAST:
        return rows[-1]
    rows = rows[skip:] if skip else rows
    if pooling is Pooling.MAX:
        return rows.max(axis=0)
    return rows.mean(axis=0)


def unit_rows(rows: Vector) -> Vector:
    """Each of length 1."""
    return np.stack([unit(row) for row in rows])


def unit(vector: Vector) -> Vector:
    """Of length 1, or nothing where it has none."""
    if not np.isfinite(vector).all():
        raise ValueError("the model put out values that are no numbers")
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length > 0 else vector
