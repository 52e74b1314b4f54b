"""Perplexity, KL and agreement against NumPy in float64, on models that are tables of what follows what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.convert.compare import ROWS, compare, perplexity
from mlxrun.convert.text import calibration
from mlxrun.spec import ModelError

VOCAB = 11


class Table:
    """Logits of the next token from the last one; the memory is only a count, to see that windows start empty."""

    context, notes, vocab = 10_000, (), VOCAB

    def __init__(self, seed: int) -> None:
        self.logits_of = np.random.default_rng(seed).standard_normal((VOCAB, VOCAB)) * 2
        self.starts: list[int] = []

    def new_sequence(self, context: int | None = None) -> Any:
        return SimpleNamespace(context=context or 0, adapter=None)

    def __call__(self, ids: mx.array, sequences: Any) -> mx.array:
        ((memory, count),) = sequences
        assert memory.context == count == ids.size
        assert memory.adapter is None
        self.starts.append(count)
        return mx.array(np.eye(VOCAB, dtype=np.float32))[ids]

    def logits(self, hidden: mx.array) -> mx.array:
        assert hidden.shape[0] <= ROWS
        return hidden @ mx.array(self.logits_of.astype(np.float32))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def predicted(ids: np.ndarray, window: int) -> np.ndarray:
    """Places of tokens that are predicted: all but the first of each window."""
    return np.array([i for i in range(len(ids)) if i % window])


IDS = np.random.default_rng(1).integers(0, VOCAB, 201)


@pytest.mark.parametrize("window", [2, 50, 200, 512])
def test_against_float64(window: int) -> None:
    model, reference = Table(0), Table(1)
    found = compare(model, reference, IDS.tolist(), window=window)
    places = predicted(IDS, window)
    q, p = (log_softmax(m.logits_of)[IDS[places - 1]] for m in (model, reference))
    kl = (np.exp(p) * (p - q)).sum(-1)
    assert found.tokens == len(places)
    assert found.kl == pytest.approx(kl.mean(), rel=1e-5)
    assert found.kl_99 == pytest.approx(np.sort(kl)[len(kl) * 99 // 100], rel=1e-5)
    assert found.top1 == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean())
    rows = np.arange(len(places)), IDS[places]
    assert found.perplexity == pytest.approx(np.exp(-q[rows].mean()), rel=1e-5)
    assert found.reference_perplexity == pytest.approx(np.exp(-p[rows].mean()), rel=1e-5)
    assert perplexity(Table(0), IDS.tolist(), window=window) == pytest.approx(found.perplexity, rel=1e-6)


def test_a_model_and_itself() -> None:
    found = compare(Table(0), Table(0), IDS.tolist())
    assert (found.kl, found.top1) == (0, 1)


def test_progress_ends_at_all() -> None:
    seen: list[tuple[int, int]] = []
    perplexity(Table(0), IDS.tolist(), window=64, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 201), (128, 201), (192, 201), (201, 201)]


@pytest.mark.parametrize("ids", [[], [3]])
def test_too_short_a_text(ids: list[int]) -> None:
    with pytest.raises(ModelError, match="fewer than two tokens"):
        perplexity(Table(0), ids)


def test_other_vocabulary() -> None:
    other = Table(0)
    other.vocab = 12
    with pytest.raises(ModelError, match="vocabularies of 11 and 12"):
        compare(Table(0), other, IDS.tolist())


def test_the_text_is_there() -> None:
    assert len(calibration().split()) > 1000
