"""A plan -> one pass through the model, started and not waited for. Knows no request's limits or stop ids.

A step is two launches: the model's pass, then, once the tokens of the pass before are read, what this one draws. So
penalties and masks know the last token, and the model computes meanwhile. Where nobody needs to know it, both are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import mlx.core as mx

from ..loading.model import Runnable
from .plan import PassPart, PassPlan
from .request import Row
from .sampler import Ahead, Draw, Samples, best_alone, only_best, sample


@dataclass(frozen=True, slots=True)
class Unsampled:
    """A pass whose tokens are drawn once the last ones are read."""

    rows: tuple[Row, ...]
    logits: mx.array  # (R, V)
    alone: bool


class Runner:
    def __init__(self, model: Runnable) -> None:
        self._model = model

    def forward(self, plan: PassPlan) -> Unsampled | None:
        """Start the pass; what is ready in the plan can be read meanwhile. None: what it draws was started with it."""
        unsampled = self._start(plan) if plan.parts else None
        for row, old in plan.ready:
            if row.ahead is old:
                row.ahead = None
        return unsampled

    def sample(self, unsampled: Unsampled, rows: Sequence[Row]) -> None:
        """Start what is drawn for those of its rows who still run: what they said last is read."""
        if not rows:
            return
        logits = unsampled.logits
        if len(rows) < len(unsampled.rows):
            places = {id(row): place for place, row in enumerate(unsampled.rows)}
            logits = logits[mx.array([places[id(row)] for row in rows])]
        samples = sample(logits, [row.draw for row in rows], self._model.device)
        start(look_ahead(rows, samples), unsampled.alone)

    def _start(self, plan: PassPlan) -> Unsampled | None:
        parts = plan.parts
        hidden = self._model(ids_of(parts), [(part.row.memory, part.count) for part in parts])
        arrays = [array for part in parts for array in part.row.memory.arrays()]
        chosen = tuple(part.row for part in parts if part.samples)
        unsampled = None
        if chosen:
            ends = [end - 1 for end, part in zip(row_ends(parts), parts, strict=True) if part.samples]
            rows = hidden if len(ends) == hidden.shape[0] else hidden[mx.array(ends)]
            if any(row.needs_last for row in chosen):
                unsampled = Unsampled(chosen, self._model.logits(rows), plan.alone)
                arrays.append(unsampled.logits)
            else:
                arrays += look_ahead(chosen, self._sampled(rows, [row.draw for row in chosen]))
        start(arrays, plan.waits)  # which bounds how far we run ahead
        for part in parts:
            if plan.alone and part.row.memory.length >= part.row.goal:
                part.row.goal = 0
        return unsampled

    def _sampled(self, rows: mx.array, draws: Sequence[Draw]) -> Samples:
        best = self._model.best(rows) if best_alone(draws) else None
        return sample(self._model.logits(rows), draws, self._model.device) if best is None else only_best(best)


def look_ahead(rows: Sequence[Row], samples: Samples) -> list[mx.array]:
    for index, row in enumerate(rows):
        row.ahead = Ahead(samples, index)
    return samples.arrays


def start(arrays: list[mx.array], wait: bool) -> None:
    """`wait`: what breaks must break here."""
    if wait:
        mx.eval(arrays)
    else:
        mx.async_eval(arrays)


def computed(ready: Sequence[tuple[Row, Ahead]]) -> None:
    """Wait until what is to be read is there."""
    for _, ahead in ready:
        ahead.samples.token(ahead.row)


def ids_of(parts: Sequence[PassPart]) -> mx.array:
    """(T,) int32. Tokens that are ahead come from what the last pass sampled, nearly always from all of its rows."""
    ahead = [part.row.ahead for part in parts if part.ids is None and part.row.ahead is not None]
    pieces = []
    for _, group in groupby(ahead, key=lambda one: id(one.samples)):
        of_one_pass = list(group)
        tokens, rows = of_one_pass[0].samples.tokens, [one.row for one in of_one_pass]
        pieces.append(tokens if rows == list(range(tokens.size)) else tokens[mx.array(rows)])
    prompts = [token for part in parts for token in part.ids or ()]
    if prompts:
        pieces.append(mx.array(prompts, mx.int32))
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces)


def row_ends(parts: Sequence[PassPart]) -> list[int]:
    return list(accumulate(part.count for part in parts))
