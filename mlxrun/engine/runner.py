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
from .draft.base import See, SeenRows
from .pictures import soft_rows
from .places import turns_of
from .plan import PassPart, PassPlan
from .request import Row
from .sampler import Ahead, Draw, Samples, likeliest, only_best, sample


@dataclass(frozen=True, slots=True)
class Unsampled:
    """A pass whose tokens are drawn once the last ones are read."""

    parts: tuple[PassPart, ...]
    logits: mx.array  # (R, V), of each part one and then one for each of its drafts
    alone: bool

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(part.row for part in self.parts)


class Runner:
    def __init__(self, model: Runnable, see: See | None = None) -> None:
        """`see`: is shown the rows of each pass, and says which of them must be computed with it."""
        self._model, self._see = model, see

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
        still, logits = set(rows), unsampled.logits
        parts = [part for part in unsampled.parts if part.row in still]
        if len(parts) < len(unsampled.parts):
            owners = [part.row for part in unsampled.parts for _ in range(1 + len(part.drafts))]
            logits = logits[mx.array([place for place, row in enumerate(owners) if row in still])]
        start(look_ahead(parts, sample(logits, draws_of(parts), self._model.device)), unsampled.alone)

    def _start(self, plan: PassPlan) -> Unsampled | None:
        parts = plan.parts
        ids, sequences = ids_of(parts), [(part.row.memory, part.count) for part in parts]
        soft, turns = soft_rows(parts), turns_of(parts)
        plain = soft is None and turns is None
        hidden = self._model(ids, sequences) if plain else self._model(ids, sequences, soft, turns)
        arrays = list({id(array): array for part in parts for array in part.row.memory.arrays()}.values())  # some share
        if self._see is not None:
            ends = [part.end + len(part.drafts.tokens) for part in parts]
            seen = [SeenRows(part.row, end - part.count, part.count) for part, end in zip(parts, ends, strict=True)]
            arrays += self._see(seen, hidden)
        chosen = tuple([part for part in parts if part.samples])
        unsampled = None
        if chosen:
            total = hidden.shape[0]
            sampled = list(range(total)) if total == len(chosen) else sampled_rows(parts)
            rows = hidden if len(sampled) == total else hidden[mx.array(sampled)]
            if any(part.row.needs_last for part in chosen):
                unsampled = Unsampled(chosen, self._model.logits(rows), plan.alone)
                arrays.append(unsampled.logits)
            else:
                arrays += look_ahead(chosen, self._sampled(rows, chosen))
        start(arrays, plan.waits)  # which bounds how far we run ahead
        for part in parts:
            if plan.alone and part.row.memory.length >= part.row.goal:
                part.row.goal = 0
        return unsampled

    def _sampled(self, rows: mx.array, parts: Sequence[PassPart]) -> Samples:
        if not all(part.row.greedy for part in parts):
            return sample(self._model.logits(rows), draws_of(parts), self._model.device)
        best = self._model.best(rows)
        return likeliest(self._model.logits(rows), self._model.device) if best is None else only_best(best)


def draws_of(parts: Sequence[PassPart]) -> list[Draw]:
    return [draw for part in parts for draw in part.row.draws(part.drafts)]


def look_ahead(parts: Sequence[PassPart], samples: Samples) -> list[mx.array]:
    first = 0
    for part in parts:
        part.row.ahead = Ahead(samples, first, part.drafts.tokens)
        first += 1 + len(part.drafts.tokens)
    return samples.arrays


def start(arrays: list[mx.array], wait: bool) -> None:
    """`wait`: what breaks must break here."""
    if wait:
        mx.eval(arrays)
    else:
        mx.async_eval(arrays)


def computed(ready: Sequence[tuple[Row, Ahead]]) -> None:
    """Wait until what is to be read is there."""
    last: Samples | None = None
    for _, ahead in ready:
        if ahead.samples is not last:  # nearly always one pass's
            last = ahead.samples
            last.token(ahead.row)


def ids_of(parts: Sequence[PassPart]) -> mx.array:
    """(T,) int32. Tokens that are ahead come from what the last pass sampled, nearly always from all of its rows."""
    ahead = [part.row.ahead for part in parts if part.ids is None and part.row.ahead is not None]
    pieces = []
    for _, group in groupby(ahead, key=lambda one: id(one.samples)):
        of_one_pass = list(group)
        tokens, rows = of_one_pass[0].samples.tokens, [one.row for one in of_one_pass]
        pieces.append(tokens if rows == list(range(tokens.size)) else tokens[mx.array(rows)])
    prompts = [token for part in parts if part.ids is not None for token in (*part.ids, *part.drafts.tokens)]
    if prompts:
        pieces.append(mx.array(prompts, mx.int32))
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces)


def sampled_rows(parts: Sequence[PassPart]) -> list[int]:
    """Of what goes through the model: the last of each part that samples, and those that its drafts follow on."""
    ends = zip(accumulate(part.count for part in parts), parts, strict=True)
    return [row for end, part in ends if part.samples for row in range(end - 1 - len(part.drafts.tokens), end)]
