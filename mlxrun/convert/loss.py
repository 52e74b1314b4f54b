"""What a smaller copy of a model loses: both predict the same text, one after the other, so one at a time is in memory.

Told in a sentence and kept beside the copy, so whoever loads it later is told too. A copy that lost much is named as
such, with what to do. A model that has no logits, or does not fit while it is measured, is a ModelError.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..loading import LoadOptions, OpenedModel, load_opened
from .compare import ROWS, run

TOKENS = 256  # of the text
FILE = "quantization_loss.json"
MUCH = 0.1  # nats a token; a good 4-bit copy of a model of some billions has a tenth of it
TOO_MUCH = 1.0  # answers are of another kind then: loops, nonsense


@dataclass(frozen=True, slots=True)
class Loss:
    kl: float  # KL(model || copy), nats a token
    perplexity: float  # of the copy
    reference_perplexity: float
    same: float  # share of tokens where both have the same favourite
    tokens: int

    def __str__(self) -> str:
        told = (
            f"What this costs, on {self.tokens} tokens: KL divergence {self.kl:.3g} nats a token, perplexity "
            f"{self.reference_perplexity:.4g} -> {self.perplexity:.4g}, the same favourite for {self.same:.0%}."
        )
        if self.kl < MUCH:
            return told
        how = "it is likely to repeat itself or to write nonsense" if self.kl >= TOO_MUCH else "answers will be worse"
        return f"{told} That is much: {how}. More bits, or 'convert --recipe mixed', lose less."


def measure(model: OpenedModel, copy: OpenedModel, ids: Sequence[int], adapter: Path | None = None) -> Loss:
    """`adapter`: that the model has beside it, and the copy in it. Raises ModelError where one cannot be asked."""
    ids = list(ids[:TOKENS])
    p, q = predictions(model, ids, adapter), predictions(copy, ids)
    rows = np.arange(len(ids) - 1), np.array(ids[1:])
    kl = (np.exp(p) * (p - q)).sum(-1)
    return Loss(
        float(kl.mean()),
        math.exp(min(700.0, -float(q[rows].mean()))),
        math.exp(min(700.0, -float(p[rows].mean()))),
        float((p.argmax(-1) == q.argmax(-1)).mean()),
        len(ids) - 1,
    )


def predictions(opened: OpenedModel, ids: Sequence[int], adapter: Path | None = None) -> np.ndarray:
    """(T - 1, vocab) log-probabilities of what follows each token. The model is gone afterwards."""
    named = () if adapter is None else ((str(adapter), adapter),)
    model = load_opened(opened, LoadOptions(adapters=named))
    hidden = run(model, mx.array(list(ids), mx.int32), model.holdings.adapters.get(str(adapter)))
    parts = []
    for first in range(0, len(ids) - 1, ROWS):
        logits = model.logits(hidden[first : min(first + ROWS, len(ids) - 1)]).astype(mx.float32)
        parts.append(np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True)))
    return np.concatenate(parts)


def keep(loss: Loss, folder: Path) -> None:
    (folder / FILE).write_text(json.dumps(asdict(loss), indent=2), encoding="utf-8")


def kept(folder: Path) -> Loss | None:
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Loss(**{field.name: told[field.name] for field in fields(Loss)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
