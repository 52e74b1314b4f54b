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
from .base import DraftedRow, Drafts, SeenRows
from .loaded import LoadedProposer

PIECE = 256  # pairs, at most, that are read of what came before


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


class PredictionHead(LoadedProposer):
    name, called, most = "head", "prediction head", 4  # it was taught to guess one

    def __init__(
        self, head: Runnable, run: HeadModel, context: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """`run` is the same head, as it is handed hidden rows."""
        super().__init__(head, clock)
        self._run, self._context = run, context

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

    def bytes(self, row: DraftedRow) -> int:
        state = row.drafting.proposers.get(self.name)
        return (state.memory.bytes if state else 0) + sum(rows.nbytes for _, rows in row.drafting.hidden)

    def ended(self, row: DraftedRow) -> None:
        self._drop(row)

    def _drop(self, row: DraftedRow) -> None:
        super()._drop(row)
        row.drafting.hidden = []

    def _propose(self, rows: Sequence[DraftedRow], most: Sequence[int]) -> dict[int, list[int]]:
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
                if token < 0 or len(drafts[index]) >= min(most[index], self.most) or token in rows[index].draw.stop_ids:
                    del new[index]
                else:
                    assert state.hidden is not None
                    new[index] = [token], state.hidden
            self._took(len(drafts), began)
        for index, length in lengths.items():
            if not self._state(rows[index]).memory.rewind(length):
                self.ended(rows[index])
        return drafts

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
            memory = self._model.new_sequence(self._context)
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
        held = [array for state in states for array in state.memory.arrays()]
        samples = self._drawn(hidden, draws, [hidden, *held])
        return {index: samples.token(place) for place, index in enumerate(new)}
