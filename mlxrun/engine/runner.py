"""A plan -> one pass through the model, started and not waited for. Knows no request's limits or stop ids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby

import mlx.core as mx

from ..loading.model import Runnable
from .plan import PassPart, PassPlan
from .request import Row
from .sampler import Ahead, Draw, Samples, best_alone, only_best, sample


class Runner:
    def __init__(self, model: Runnable) -> None:
        self._model = model

    def __call__(self, plan: PassPlan) -> Sequence[tuple[Row, Ahead]]:
        """Build and start the pass; return what can be read meanwhile."""
        if plan.parts:
            self._start(plan)
        for row, old in plan.ready:
            if row.ahead is old:  # it had no part: what it has is its last token
                row.ahead = None
        return plan.ready

    def _start(self, plan: PassPlan) -> None:
        parts = plan.parts
        hidden = self._model(ids_of(parts), [(part.row.memory, part.count) for part in parts])
        arrays = [array for part in parts for array in part.row.memory.arrays()]
        chosen = [part.row for part in parts if part.samples]
        if chosen:
            ends = [end - 1 for end, part in zip(row_ends(parts), parts, strict=True) if part.samples]
            rows = hidden if len(ends) == hidden.shape[0] else hidden[mx.array(ends)]
            samples = self._sampled(rows, [row.draw for row in chosen])
            for index, row in enumerate(chosen):
                row.ahead = Ahead(samples, index)
            arrays += samples.arrays
        if plan.waits:
            mx.eval(arrays)  # this bounds how far we run ahead
        else:
            mx.async_eval(arrays)
        for part in parts:
            if plan.alone and part.row.memory.length >= part.row.goal:
                part.row.goal = 0

    def _sampled(self, rows: mx.array, draws: Sequence[Draw]) -> Samples:
        best = self._model.best(rows) if best_alone(draws) else None
        return sample(self._model.logits(rows), draws, self._model.device) if best is None else only_best(best)


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
