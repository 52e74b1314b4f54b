"""What proposers with weights of their own share: how long a draft takes, what they claim, how they draw.

One that breaks is given up, with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import mlx.core as mx

from ...loading.model import Runnable
from ...memory.claim import Claim
from ..budget import Times, nearest
from ..sampler import Draw, Samples, best_alone, only_best, sample
from .base import NO_DRAFTS, DraftedRow, Drafts

PRIOR = 0.7  # the chance of a draft before any was seen: enough to be tried


class LoadedProposer:
    name: str
    called: str  # in a sentence
    most: int  # drafts of one request at a time

    def __init__(self, model: Runnable, clock: Callable[[], float] = time.perf_counter) -> None:
        self._model, self._clock = model, clock
        self._times: dict[int, Times] = {}  # of one draft of each of so many rows
        self.given_up: str | None = None  # why

    def prior(self, kind: int) -> float:
        return PRIOR

    def kinds(self, count: int) -> tuple[int, ...]:
        return tuple(range(min(count, self.most)))

    def seconds(self, rows: int) -> float:
        """Of a draft of each; 0 before any was made."""
        return nearest(self._times, rows) or 0.0

    def propose(self, rows: Sequence[DraftedRow], most: Sequence[int]) -> list[Drafts]:
        if self.given_up is not None:
            return [NO_DRAFTS] * len(rows)
        try:
            drafts = self._propose(rows, most)
        except (RuntimeError, ValueError, MemoryError) as error:  # what MLX and models raise
            self.given_up = f"The {self.called} broke, and nothing more is drafted by it: {error}"
            self.forget()
            for row in rows:
                self._drop(row)
            return [NO_DRAFTS] * len(rows)
        made = (tuple(drafts.get(index, ())) for index in range(len(rows)))
        return [Drafts(tokens, self.kinds(len(tokens))) for tokens in made]

    @property
    def claim(self) -> Claim:
        held = self._model.holdings
        activations = 0 if held.budget is None else held.budget.activations
        return Claim(held.used.own + self.kept_bytes, held.used.mapped, activations)

    @property
    def kept_bytes(self) -> int:
        """Beside its weights, of what no request has."""
        return 0

    def forget(self) -> None:
        """What of that can be had again."""

    def _propose(self, rows: Sequence[DraftedRow], most: Sequence[int]) -> dict[int, list[int]]:
        """By the number of the row."""
        raise NotImplementedError

    def _drop(self, row: DraftedRow) -> None:
        """All that is known of it."""
        row.drafting.proposers.pop(self.name, None)

    def _can_draw(self, row: DraftedRow) -> bool:
        """It may know fewer tokens than the model that checks."""
        return max(row.draw.sampling.ids, default=0) < self._model.vocab

    def _took(self, rows: int, began: float) -> None:
        self._times.setdefault(rows, Times()).add(self._clock() - began)

    def _drawn(self, hidden: mx.array, draws: Sequence[Draw], beside: Sequence[mx.array]) -> Samples:
        """One token of each row, and what else must be computed."""
        best = self._model.best(hidden) if best_alone(draws) else None
        samples = sample(self._model.logits(hidden), draws, self._model.device) if best is None else only_best(best)
        mx.eval(samples.arrays, list(beside))
        return samples
