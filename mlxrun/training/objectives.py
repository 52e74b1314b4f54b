"""What is made smaller, in float32: of texts, the mean surprise of the tokens that are learnt; of pairs, DPO or ORPO.

DPO: Rafailov et al. 2023, arXiv 2305.18290; what it is measured against is the same model without the adapter.
ORPO: Hong et al. 2024, arXiv 2403.07691.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..nn.decoder import DecoderModel
from ..ops.adapters import Adapter
from .config import TrainConfig
from .core import ReadOnce
from .examples import AnyExample, Example, PairExample
from .pairs import Pairs

LOGITS = 1 << 25  # numbers that are made of the vocabulary at once

# of trained arrays and examples, divided by the units of a whole step: so that parts of a step add up to its mean
LossOf = Callable[[Mapping[str, mx.array], Sequence[AnyExample], int], mx.array]


@dataclass(frozen=True)
class Surprise:
    """log p of each token that is learnt, and of which example it is."""

    logs: mx.array  # (R,) float32
    ends: tuple[int, ...]  # in it, of each example

    def sums(self) -> list[mx.array]:
        starts = (0, *self.ends)
        return [self.logs[start:end].sum() for start, end in zip(starts, self.ends, strict=False)]


def units(examples: Sequence[AnyExample]) -> int:
    """By which a step's loss is divided: tokens that are learnt, or pairs."""
    return sum(1 if isinstance(one, PairExample) else one.supervised for one in examples)


def loss_of(decoder: DecoderModel, pairs: Pairs, config: TrainConfig) -> LossOf:
    if config.objective == "sft":
        return lambda trained, examples, count: (
            -surprise(decoder, texts(examples), pairs.adapter(trained)).logs.sum() / count
        )
    contrast = dpo if config.objective == "dpo" else orpo

    def loss(trained: Mapping[str, mx.array], examples: Sequence[AnyExample], count: int) -> mx.array:
        both = [one for one in examples if isinstance(one, PairExample)]
        return contrast(decoder, both, pairs.adapter(trained), config.beta) / count

    return loss


def texts(examples: Sequence[AnyExample]) -> list[Example]:
    return [one for one in examples if isinstance(one, Example)]


def dpo(decoder: DecoderModel, pairs: Sequence[PairExample], adapter: Adapter, beta: float) -> mx.array:
    sides = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    trained = surprise(decoder, sides, adapter).sums()
    before = mx.stop_gradient(mx.stack(surprise(decoder, sides, None).sums()))
    gained = mx.stack(trained) - before
    return -nn.log_sigmoid(beta * (gained[0::2] - gained[1::2])).sum()


def orpo(decoder: DecoderModel, pairs: Sequence[PairExample], adapter: Adapter, beta: float) -> mx.array:
    sides = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    found = surprise(decoder, sides, adapter)
    means = mx.stack(found.sums()) / mx.array([side.supervised for side in sides])
    odds = means - mx.log1p(-mx.exp(means))
    return (-means[0::2] - beta * nn.log_sigmoid(odds[0::2] - odds[1::2])).sum()


def surprise(decoder: DecoderModel, examples: Sequence[Example], adapter: Adapter | None) -> Surprise:
    ids = mx.array(np.concatenate([one.ids for one in examples]))
    blank = (None,) * len(decoder.spec.layers)
    reads = [(ReadOnce(one.count, blank, adapter), one.count) for one in examples]
    hidden = decoder(ids, reads)  # type: ignore[arg-type]  # a text that is read once needs no more of a memory
    learnt = np.concatenate([one.learnt for one in examples])
    found = np.flatnonzero(learnt)
    rows, wanted = hidden[mx.array(found - 1)], ids[mx.array(found)]
    size = max(1, LOGITS // decoder.spec.vocab)
    parts = [
        _logs_of(decoder, rows[at : at + size], wanted[at : at + size], again=len(found) > size)
        for at in range(0, len(found), size)
    ]
    ends = np.cumsum([one.supervised for one in examples])
    return Surprise(parts[0] if len(parts) == 1 else mx.concatenate(parts), tuple(int(end) for end in ends))


def _logs_of(decoder: DecoderModel, rows: mx.array, tokens: mx.array, *, again: bool) -> mx.array:
    """`again`: logits are not kept for the way back but made once more."""

    def logs(some: mx.array) -> mx.array:
        logits = decoder.logits(some).astype(mx.float32)
        chosen = mx.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
        return chosen - mx.logsumexp(logits, axis=-1)

    made: mx.array = (mx.checkpoint(logs) if again else logs)(rows)
    return made
