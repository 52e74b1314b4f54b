"""A vector for each token of texts, and how well texts fit a question by these: each row of the question looks for the
row of a text that is closest, and what they find is averaged (MaxSim). Knows no text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import mlx.core as mx
import numpy as np

from ..loading.model import Runnable
from .adapters import new_sequence
from .embedding import Vector, batches, unit_rows

LEAST = 1e-6  # a share is no nearer to 0 or 1


class Rows(Protocol):
    """Of one text: its tokens, how many of them are looked at, and which have vectors."""

    @property
    def ids(self) -> tuple[int, ...]: ...

    @property
    def seen(self) -> int: ...

    @property
    def kept(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class LateJob:
    inputs: tuple[tuple[int, ...], ...]  # token ids, none of them empty
    seen: tuple[int, ...]  # of each how many, from the first on, are looked at
    kept: tuple[tuple[int, ...], ...]  # of each the rows that have vectors
    steps: tuple[Callable[[Vector], Vector], ...] = ()
    adapter: str | None = None
    done: Future[list[Vector]] = field(default_factory=Future)  # (rows, size) each; whoever cancels it ends the job

    @classmethod
    def of(cls, read: Sequence[Rows], steps: Sequence[Callable[[Vector], Vector]], adapter: str | None) -> LateJob:
        ids, kept = tuple(one.ids for one in read), tuple(one.kept for one in read)
        return cls(ids, tuple(one.seen for one in read), kept, tuple(steps), adapter)

    def passes(self, model: Runnable) -> Iterator[None]:
        found: list[Vector] = []
        for batch in batches(self.inputs):
            first = len(found)
            hidden = model(
                mx.array([token for ids in batch for token in ids], mx.int32),
                [(new_sequence(model, len(ids), self.adapter), len(ids)) for ids in batch],
                seen=self.seen[first : first + len(batch)],
            )
            rows = np.array(hidden.astype(mx.float32))
            start = 0
            for ids, kept in zip(batch, self.kept[first:], strict=False):
                found.append(self._finished(rows[start : start + len(ids)][list(kept)]))
                start += len(ids)
            yield
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(found)

    def _finished(self, rows: Vector) -> Vector:
        for step in self.steps:
            rows = step(rows)
        return unit_rows(rows)


@dataclass(frozen=True)
class LateRankingJob:
    """Its first input is the question. Of each other a logit, whose share is the mean of what is found."""

    read: LateJob
    done: Future[list[float]] = field(default_factory=Future)

    @property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        return self.read.inputs

    def passes(self, model: Runnable) -> Iterator[None]:
        yield from self.read.passes(model)
        question, *texts = self.read.done.result(0)
        if self.done.set_running_or_notify_cancel():
            self.done.set_result([logit((question @ text.T).max(axis=1).mean()) for text in texts])


def logit(share: float) -> float:
    share = min(max(float(share), LEAST), 1 - LEAST)
    return math.log(share / (1 - share))
