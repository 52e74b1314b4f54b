"""Drafts of a checkpoint's own head: it guesses the next token from the last and what the model thought before that.

The head is a layer with keys of its own. It reads pairs, a token and the model's hidden row at the token before it; so
the engine shows it the rows of each pass, and those of the last PIECE tokens are kept until a draft is asked for. After
its first guess it goes on from its own rows, which are taken back afterwards: what stays in its memory is the model's.
Of what the model never computed, as where a prompt was kept from before, it knows nothing, and begins behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import mlx.core as mx

from ...contracts import SequenceMemory
from ...loading.model import Holdings, Runnable
from ...memory.claim import Claim
from ..budget import Times, nearest
from ..sampler import best_alone, only_best, sample
from .base import NO_DRAFTS, DraftedRow, Drafts, SeenRows

MOST = 4  # drafts of one request at a time: it was taught to guess one
PIECE = 256  # pairs, at most, that are read of what came before
PRIOR = 0.7  # the chance of a draft before any was seen: enough to be tried


class HeadModel(Protocol):
    """A model whose rows are made of tokens and of another one's hidden rows."""

    @property
    def holdings(self) -> Holdings: ...

    def __call__(
        self, ids: mx.array, sequences: Sequence[tuple[SequenceMemory, int]], *, thought: mx.array | None = None
    ) -> mx.array: ...


@dataclass(slots=True)
class HeadMemory:
    memory: SequenceMemory
    first: int  # position of the first pair that it holds
    hidden: mx.array | None = None  # of the last row: what the model's was joined to

    @property
    def next(self) -> int:
        return self.first + self.memory.length


class PredictionHead:
    name, most = "head", MOST

    def __init__(
        self, head: Runnable, run: HeadModel, context: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """`run` is the same head, as it is handed hidden rows."""
        self._head, self._run, self._context, self._clock = head, run, context, clock
        self._times: dict[int, Times] = {}  # of one draft of each of so many rows
        self.given_up: str | None = None  # why

    def prior(self, kind: int) -> float:
        return PRIOR

    def kinds(self, count: int) -> tuple[int, ...]:
        return tuple(range(min(count, MOST)))

    def seconds(self, rows: int) -> float:
        return nearest(self._times, rows) or 0.0

    def see(self, seen: Sequence[SeenRows], hidden: mx.array) -> list[mx.array]:
        """The model's rows of a pass that is on its way; what must be computed with it."""
        kept, start = [], 0
        for row, position, count in seen:
            rows = hidden[start : start + count]
            start += count
            before = [
                (at, old if at + old.shape[0] <= position else old[: position - at])  # drafts that were wrong
                for at, old in row.drafting.hidden
                if at < position
            ]
            while before and before[0][0] + before[0][1].shape[0] <= position + count - PIECE:
                before.pop(0)
            row.drafting.hidden = [*before, (position, rows)]
            kept.append(rows)
        return kept

    def propose(self, rows: Sequence[DraftedRow], most: Sequence[int]) -> list[Drafts]:
        if self.given_up is not None:
            return [NO_DRAFTS] * len(rows)
        try:
            return self._propose(rows, most)
        except (RuntimeError, ValueError, MemoryError) as error:  # what MLX and models raise
            self.given_up = f"The prediction head broke, and nothing more is drafted by it: {error}"
            for row in rows:
                self.ended(row)
            return [NO_DRAFTS] * len(rows)

    @property
    def claim(self) -> Claim:
        held = self._head.holdings
        activations = 0 if held.budget is None else held.budget.activations
        return Claim(held.used.own, held.used.mapped, activations)

    def forget(self) -> None:
        pass

    def bytes(self, row: DraftedRow) -> int:
        state = row.drafting.proposers.get(self.name)
        return (state.memory.bytes if state else 0) + sum(rows.nbytes for _, rows in row.drafting.hidden)

    def ended(self, row: DraftedRow) -> None:
        row.drafting.proposers.pop(self.name, None)
        row.drafting.hidden = []

    def _propose(self, rows: Sequence[DraftedRow], most: Sequence[int]) -> list[Drafts]:
        drafts: dict[int, list[int]] = {}
        new: dict[int, tuple[Sequence[int], mx.array]] = {}  # tokens, and the hidden rows that they are joined to
        for index, (row, count) in enumerate(zip(rows, most, strict=True)):
            found = self._unread(row) if count > 0 and self._can_draw(row) else None
            if found is not None:
                drafts[index], new[index] = [], found
        lengths = {index: self._state(rows[index]).memory.length + len(new[index][0]) for index in new}
        while new:
            began = self._clock()
            for index, token in self._step(rows, drafts, new).items():
                state = self._state(rows[index])
                if token >= 0:
                    drafts[index].append(token)
                if token < 0 or len(drafts[index]) >= min(most[index], MOST) or token in rows[index].draw.stop_ids:
                    del new[index]
                else:
                    assert state.hidden is not None
                    new[index] = [token], state.hidden
            self._times.setdefault(len(drafts), Times()).add(self._clock() - began)
        for index, length in lengths.items():
            if not self._state(rows[index]).memory.rewind(length):
                self.ended(rows[index])
        made = (tuple(drafts.get(index, ())) for index in range(len(rows)))
        return [Drafts(tokens, self.kinds(len(tokens))) for tokens in made]

    def _can_draw(self, row: DraftedRow) -> bool:
        return max(row.draw.sampling.ids, default=0) < self._head.vocab

    def _state(self, row: DraftedRow) -> HeadMemory:
        state: HeadMemory = row.drafting.proposers[self.name]
        return state

    def _unread(self, row: DraftedRow) -> tuple[Sequence[int], mx.array] | None:
        """The pairs up to the last token that was said; None: the model's row of that is not there."""
        end, hidden = len(row.tokens) - 1, row.drafting.hidden  # the pair at a position has the token behind it
        pieces: list[mx.array] = []
        first = end
        state = row.drafting.proposers.get(self.name)
        least = max(end - PIECE, state.next if state is not None else 0)
        for position, rows in reversed(hidden):
            if position >= first:
                continue
            if position + rows.shape[0] < first or first <= least:
                break
            start = max(position, least)
            pieces.append(rows[start - position : first - position])
            first = start
        if first == end:
            return None
        if state is None or state.next != first:
            if state is not None and state.next > first:
                return None
            memory = self._head.new_sequence(self._context)
            row.drafting.proposers[self.name] = HeadMemory(memory, first)
        row.drafting.hidden = []
        return row.tokens[first + 1 : end + 1], mx.concatenate(pieces[::-1])

    def _step(
        self,
        rows: Sequence[DraftedRow],
        drafts: dict[int, list[int]],
        new: dict[int, tuple[Sequence[int], mx.array]],
    ) -> dict[int, int]:
        """One more draft of each."""
        states = [self._state(rows[index]) for index in new]
        ids = mx.array([token for tokens, _ in new.values() for token in tokens], mx.int32)
        thought = mx.concatenate([hidden for _, hidden in new.values()])
        counts = [len(tokens) for tokens, _ in new.values()]
        hidden = self._run(ids, [(s.memory, n) for s, n in zip(states, counts, strict=True)], thought=thought)
        if len(ids) > len(states):
            hidden = hidden[mx.array([end - 1 for end in accumulate(counts)])]
        for place, state in enumerate(states):
            state.hidden = hidden[place : place + 1]
        draws = [rows[index].draws(Drafts(tuple(drafts[index])))[-1] for index in new]
        best = self._head.best(hidden) if best_alone(draws) else None
        samples = sample(self._head.logits(hidden), draws, self._head.device) if best is None else only_best(best)
        mx.eval(samples.arrays, hidden, [array for state in states for array in state.memory.arrays()])
        return {index: samples.token(place) for place, index in enumerate(new)}
