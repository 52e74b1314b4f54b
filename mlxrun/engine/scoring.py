"""How likely a model finds the tokens of a text that is there already, computed between the passes of those who speak.

As sampling tells it of tokens that are drawn: the model's own log-probabilities, before all that is asked. The logits
of a few rows at a time, for those of a whole text would take far more memory than the model. Knows no text.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from ..core import TokenLogprob
from ..loading.model import Runnable
from .adapters import new_sequence
from .embedding import ROWS

LOGITS = 64  # rows whose logits are there at once


@dataclass(frozen=True)
class ScoringJob:
    tokens: tuple[int, ...]  # of which the first is likely or not, nobody knows
    top: int  # alternatives that are told with each
    adapter: str | None = None
    done: Future[list[TokenLogprob]] = field(default_factory=Future)  # of all but the first; cancel it to end the job

    def passes(self, model: Runnable) -> Iterator[None]:
        told: list[TokenLogprob] = []
        last = len(self.tokens) - 1  # nothing comes after it
        memory = new_sequence(model, len(self.tokens), self.adapter)
        for first in range(0, last, ROWS):
            part = self.tokens[first : min(first + ROWS, last)]
            hidden = model(mx.array(part, mx.int32), [(memory, len(part))])
            mx.eval(hidden, memory.arrays())
            for row in range(0, len(part), LOGITS):
                rows = hidden[row : row + LOGITS]
                following = self.tokens[first + row + 1 : first + row + 1 + rows.shape[0]]
                told += scored(model.logits(rows), following, min(self.top, model.vocab))
                yield
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(told)


def scored(logits: mx.array, following: tuple[int, ...], top: int) -> list[TokenLogprob]:
    """(R, V), and the token that comes after each row."""
    logits = logits.astype(mx.float32)
    values = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    own = np.array(mx.take_along_axis(values, mx.array(following, mx.int32)[:, None], axis=-1))[:, 0]
    if np.isnan(own).any():
        raise ValueError("the model put out values that are no numbers")
    if not top:
        return [TokenLogprob(value) for value in own.tolist()]
    ids = mx.argpartition(-values, top - 1, axis=-1)[:, :top]
    best = zip(np.array(ids).tolist(), np.array(mx.take_along_axis(values, ids, axis=-1)).tolist(), strict=True)
    ranked = [tuple(sorted(zip(*row, strict=True), key=lambda one: (-one[1], one[0]))) for row in best]
    return [TokenLogprob(value, pairs) for value, pairs in zip(own.tolist(), ranked, strict=True)]
