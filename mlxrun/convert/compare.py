"""How well a model predicts a text, and how far it is from another one: perplexity, KL divergence, top-1 agreement.

Works on token ids and on whatever runs (`loading.model.Runnable`). A text is cut into windows; every window starts
with an empty memory, and each of its tokens but the first is predicted once. Logits are taken a few rows at a
time, because a row of a large vocabulary is half a megabyte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..loading.model import Runnable
from ..ops.adapters import Adapter
from ..spec import ModelError

WINDOW = 512
ROWS = 64
Progress = Callable[[int, int], None]  # (tokens done, all of them)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of a model with a reference, on the same predictions. KL is KL(reference || model), in nats a token."""

    tokens: int
    perplexity: float
    reference_perplexity: float
    kl: float
    kl_99: float  # of 100 tokens, 99 have less
    top1: float  # the share of tokens where both have the same favourite


def perplexity(model: Runnable, ids: Sequence[int], *, window: int = WINDOW, progress: Progress | None = None) -> float:
    """exp of the mean negative log-likelihood of every predicted token."""
    total = count = 0.0
    for part, steps in _windows(ids, window, progress):
        hidden = run(model, part)
        for rows in steps:
            logp = _log_softmax(model, hidden, rows)
            total -= _chosen(logp, part, rows)
            count += len(rows)
    return math.exp(total / count)


def count_predicted(count: int, window: int = WINDOW) -> int:
    """How many of so many tokens are predicted: all but the first of each window."""
    return sum(min(window, count - start) - 1 for start in range(0, count - 1, window))


def compare(
    model: Runnable,
    reference: Runnable,
    ids: Sequence[int],
    *,
    window: int = WINDOW,
    progress: Progress | None = None,
) -> Agreement:
    """Both models see the same windows. One model opened for a fast and for an exact device tells what the fast one
    costs."""
    if model.vocab != reference.vocab:
        raise ModelError(
            f"The two models have vocabularies of {model.vocab} and {reference.vocab} tokens, "
            "so their predictions cannot be compared."
        )
    divergences: list[float] = []
    ours = theirs = same = 0.0
    for part, steps in _windows(ids, window, progress):
        hidden = run(model, part)
        other = run(reference, part)
        for rows in steps:
            q = _log_softmax(model, hidden, rows)
            p = _log_softmax(reference, other, rows)
            kl = mx.where(mx.isinf(p), 0, mx.exp(p) * (p - q)).sum(axis=-1)
            divergences += np.array(kl, np.float64).tolist()
            same += float(np.array(p.argmax(axis=-1) == q.argmax(axis=-1)).sum())
            ours -= _chosen(q, part, rows)
            theirs -= _chosen(p, part, rows)
    count = len(divergences)
    return Agreement(
        tokens=count,
        perplexity=math.exp(ours / count),
        reference_perplexity=math.exp(theirs / count),
        kl=max(0.0, sum(divergences) / count),
        kl_99=sorted(divergences)[min(count - 1, count * 99 // 100)],
        top1=same / count,
    )


def run(model: Runnable, ids: mx.array, adapter: Adapter | None = None) -> mx.array:
    """(T,) -> hidden states (T, dim), from an empty memory."""
    memory = model.new_sequence(ids.size)
    memory.adapter = adapter
    hidden = model(ids, [(memory, ids.size)])
    mx.eval(hidden)
    return hidden


def _windows(ids: Sequence[int], window: int, progress: Progress | None) -> Iterator[tuple[mx.array, Iterator[range]]]:
    """(ids of a window, its rows that predict one), a few rows at a time."""
    if len(ids) < 2:
        raise ModelError("The text has fewer than two tokens, so there is nothing to predict.")
    if window < 2:
        raise ModelError(f"A window must have at least two tokens, not {window}.")
    for start in range(0, len(ids) - 1, window):
        part = list(ids[start : start + window])
        if len(part) > 1:
            yield mx.array(part, mx.int32), _steps(len(part) - 1)
        if progress is not None:
            progress(start + len(part), len(ids))


def _steps(count: int) -> Iterator[range]:
    return (range(first, min(first + ROWS, count)) for first in range(0, count, ROWS))


def _log_softmax(model: Runnable, hidden: mx.array, rows: range) -> mx.array:
    logits = model.logits(hidden[rows.start : rows.stop]).astype(mx.float32)
    found = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    mx.eval(found)
    return found


def _chosen(logp: mx.array, ids: mx.array, rows: range) -> float:
    """The log-probabilities of the tokens that came, summed."""
    following = ids[rows.start + 1 : rows.stop + 1]
    return float(np.array(mx.take_along_axis(logp, following[:, None], axis=-1), np.float64).sum())
