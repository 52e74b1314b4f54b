"""How well texts fit a question, computed on the engine's thread between the passes of those who speak.

A cross-encoder reads each pair in one pass and tells one number. Of a model that writes the last row says how much
rather it would write a yes than a no. Both are logits. Knows no text.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from ..loading.model import Runnable
from .embedding import batches, in_parts


@dataclass(frozen=True)
class RankingJob:
    inputs: tuple[tuple[int, ...], ...]  # token ids of a question and a text, none of them empty
    types: tuple[tuple[int, ...], ...]  # in which of the two each stands
    words: tuple[int, int | None] | None = None  # a yes, and perhaps a no, of a model that writes
    done: Future[list[float]] = field(default_factory=Future)  # whoever cancels it ends the job within a pass

    def passes(self, model: Runnable) -> Iterator[None]:
        logits: list[float] = []
        for batch in batches(self.inputs):
            if self.words is None:
                types = self.types[len(logits) : len(logits) + len(batch)]
                found = model.rank(
                    mx.array([token for ids in batch for token in ids], mx.int32),
                    [(model.new_sequence(len(ids)), len(ids)) for ids in batch],
                    mx.array([kind for kinds in types for kind in kinds], mx.int32),
                )
            else:
                rows = []
                for ids in batch:
                    hidden = yield from in_parts(model, ids)
                    rows.append(hidden[-1:])
                said = model.logits(mx.concatenate(rows)).astype(mx.float32)
                yes, no = self.words
                found = said[:, yes] if no is None else said[:, yes] - said[:, no]
            numbers = np.array(found.astype(mx.float32))
            if not np.isfinite(numbers).all():
                raise ValueError("the model put out values that are no numbers")
            logits += numbers.tolist()
            yield
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(logits)
