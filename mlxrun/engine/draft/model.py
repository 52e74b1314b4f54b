"""Drafts of a smaller model with the same tokens, on the same thread, with a memory of its own beside each request's.

It draws with the request's own noise and wishes: where both models think alike they draw alike, whatever the
temperature. Its memory follows what was said: drafts that were wrong are taken back, a prompt is read in pieces, and
what ended requests left is kept for prompts that begin alike. A draft model that breaks is given up, with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import mlx.core as mx

from ...contracts import SequenceMemory
from ...loading.model import Runnable
from ..prefix_cache import PrefixCache
from .base import DraftedRow, Drafts
from .loaded import LoadedProposer

PIECE = 256  # tokens of prompts that are read before one pass of the model that checks; others wait for it
TOGETHER = 8  # tokens, at most, that are read in the pass that draws the first draft


@dataclass(slots=True)
class DraftMemory:
    memory: SequenceMemory
    known: int = 0  # tokens of the request that the memory holds, or may: drafts were written behind them
    written: list[int] = field(default_factory=list)  # these

    def follow(self, tokens: Sequence[int]) -> bool:
        """Keep what is right of the drafts. False: the memory cannot go back."""
        right = 0
        for draft, token in zip(self.written, tokens[self.known :], strict=False):
            if draft != token:
                break
            right += 1
        self.known, self.written = min(self.known + right, len(tokens) - 1), []
        return self.memory.length == self.known or self.memory.rewind(self.known)


class DraftModel(LoadedProposer):
    name, called, most = "draft", "draft model", 8

    def __init__(
        self, model: Runnable, context: int, kept_bytes: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(model, clock)
        self._context = min(context, model.context)
        self._prefixes = model.prefixes(self._context, kept_bytes) or PrefixCache(model, self._context, kept_bytes)

    def bytes(self, row: DraftedRow) -> int:
        state = row.drafting.proposers.get(self.name)
        return state.memory.bytes if state is not None else 0

    @property
    def kept_bytes(self) -> int:
        return self._prefixes.bytes

    def forget(self) -> None:
        self._prefixes.clear()

    def ended(self, row: DraftedRow) -> None:
        state = row.drafting.proposers.pop(self.name, None)
        if state is not None and state.follow(row.tokens):
            self._prefixes.keep(row.tokens[: state.known], state.memory)

    def _propose(self, rows: Sequence[DraftedRow], most: Sequence[int]) -> dict[int, list[int]]:
        wanted = {
            index: min(count, self.most, self._context - len(row.tokens))
            for index, (row, count) in enumerate(zip(rows, most, strict=True))
            if count > 0 and len(row.tokens) < self._context and self._can_draw(row)
        }
        states = {index: self._state(rows[index]) for index in wanted}
        ready = self._read(rows, states)
        drafts: dict[int, list[int]] = {index: [] for index in ready}
        while ready:
            began = self._clock()
            tokens = self._draw(rows, states, drafts, ready)
            self._took(len(ready), began)
            for index, token in tokens.items():
                if token >= 0:
                    drafts[index].append(token)
            ready = [
                index
                for index in ready
                if tokens[index] >= 0
                and len(drafts[index]) < wanted[index]
                and tokens[index] not in rows[index].draw.stop_ids
            ]
        return drafts

    def _state(self, row: DraftedRow) -> DraftMemory:
        state = row.drafting.proposers.get(self.name)
        if state is None or not state.follow(row.tokens):
            memory, cached = self._prefixes.memory_for(row.tokens)
            state = row.drafting.proposers[self.name] = DraftMemory(memory, cached)
        return state

    def _read(self, rows: Sequence[DraftedRow], states: dict[int, DraftMemory]) -> list[int]:
        """A piece of what is long. Those who can draw now."""
        budget, parts, ready = PIECE, list[tuple[DraftMemory, Sequence[int]]](), list[int]()
        for index, state in states.items():
            text = rows[index].tokens
            unread = len(text) - state.known
            new = text[state.known : state.known + min(unread - 1, budget)] if unread > TOGETHER else []
            if new:
                budget -= len(new)
                parts.append((state, new))
            if unread - len(new) <= TOGETHER:
                ready.append(index)
        if parts:
            ids = mx.array([token for _, new in parts for token in new], mx.int32)
            self._model(ids, [(state.memory, len(new)) for state, new in parts])
            mx.eval([array for state, _ in parts for array in state.memory.arrays()])
            for state, new in parts:
                state.known += len(new)
        return ready

    def _draw(
        self,
        rows: Sequence[DraftedRow],
        states: dict[int, DraftMemory],
        drafts: dict[int, list[int]],
        ready: Sequence[int],
    ) -> dict[int, int]:
        """One more draft of each."""
        new = [drafts[index][-1:] or rows[index].tokens[states[index].known :] for index in ready]
        for index in ready:
            states[index].known = len(rows[index].tokens)
            states[index].written += drafts[index][-1:]
        ids = mx.array([token for some in new for token in some], mx.int32)
        hidden = self._model(ids, [(states[index].memory, len(some)) for index, some in zip(ready, new, strict=True)])
        if len(ids) > len(ready):
            hidden = hidden[mx.array([end - 1 for end in accumulate(map(len, new))])]
        draws = [rows[index].draws(Drafts(tuple(drafts[index])))[-1] for index in ready]
        held = [array for index in ready for array in states[index].memory.arrays()]
        samples = self._drawn(hidden, draws, held)
        return {index: samples.token(place) for place, index in enumerate(ready)}
