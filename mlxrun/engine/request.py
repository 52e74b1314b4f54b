"""A row: one answer on its way, from the queue to its last token, and what of it the model has seen.

A row waits without memory, then reads its prompt, then speaks: from then on there is always a token `ahead`, or it
ends. Also here is what a request must be to be served at all. Knows no other row.
"""

from __future__ import annotations

import secrets
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from ..contracts import LayerMemory, SequenceMemory
from ..core import ContextError, Event, Finish, Priority, Refusal, Request, RequestError, Usage
from .handle import Handle
from .sampler import Ahead, Draw

PATIENCE = 30.0  # seconds after which a batch row is as urgent as any


@dataclass(slots=True)
class NoMemory:
    """Of a row that waits."""

    length: int = 0
    context: int = 0
    layers: Sequence[LayerMemory | None] = ()
    bytes: int = 0

    def reusable(self, length: int) -> int:
        return 0

    def rewind(self, length: int) -> bool:
        return length == 0

    def fork(self) -> NoMemory:
        return NoMemory()

    def arrays(self) -> list[mx.array]:
        return []


@dataclass(slots=True, eq=False)
class Row:
    """`memory.length` tells how many of `tokens` (and of `ahead`) the model has seen."""

    handle: Handle
    tokens: array[int]  # the prompt, then what was read
    limit: int  # tokens at which it ends
    seed: int
    memory: SequenceMemory = field(default_factory=NoMemory)
    cached: int = 0
    began: float = 0.0
    first: float | None = None  # when the first token was read
    ahead: Ahead | None = None
    surprise: float | None = None  # of the last token that was read, where its sampling goes by that
    goal: int = 0  # it runs alone until its memory is this long: a batch that it was in broke
    still: int = 0  # passes since it was last in one

    @classmethod
    def of(cls, handle: Handle, context: int) -> Row:
        request = handle.request
        limit, seed = context, request.sampling.seed
        if request.max_tokens is not None:
            limit = min(limit, len(request.tokens) + request.max_tokens)
        return cls(handle, array("i", request.tokens), limit, secrets.randbits(64) if seed is None else seed)

    def begin(self, memory: SequenceMemory, cached: int) -> None:
        self.memory, self.cached, self.began = memory, cached, time.perf_counter()

    def begin_anew(self, memory: SequenceMemory) -> None:
        """From the tokens that were read."""
        self.memory, self.cached, self.ahead = memory, 0, None

    @property
    def prompt(self) -> int:
        return len(self.handle.request.tokens)

    @property
    def unseen(self) -> int:
        """Tokens that are there and that the model has yet to see."""
        return len(self.tokens) - self.memory.length

    @property
    def speaks(self) -> bool:
        """Whether all but its last token was seen, and that one is the model's."""
        return self.ahead is not None or (self.first is not None and self.unseen == 1)

    @property
    def ends_ahead(self) -> bool:
        """Whether the token that is not read yet is its last."""
        return self.ahead is not None and len(self.tokens) + 1 >= self.limit

    def urgent(self, now: float) -> bool:
        return self.handle.request.priority is Priority.INTERACTIVE or now - self.handle.submitted >= PATIENCE

    @property
    def draw(self) -> Draw:
        """Of the token that comes next, after `ahead`."""
        request, unread = self.handle.request, 0 if self.ahead is None else 1
        return Draw(
            sampling=request.sampling,
            seed=self.seed,
            index=len(self.tokens) + unread - self.prompt,
            text=self.tokens,
            prompt=self.prompt,
            stop_ids=request.stop_ids,
            ahead=self.ahead,
            surprise=self.surprise,
        )

    @property
    def usage(self) -> Usage:
        now = time.perf_counter()
        first = self.first or now
        return Usage(self.prompt, self.cached, len(self.tokens) - self.prompt, first - self.began, now - first)


def refuse(handle: Handle, reason: str, refusal: Refusal = Refusal.REQUEST) -> None:
    handle.post(Event(finish=Finish.REFUSED, reason=reason, refusal=refusal))


def check(request: Request, vocab: int, context: int) -> None:
    tokens = request.tokens
    if not tokens:
        raise RequestError("The prompt is empty.")
    if len(tokens) >= context:
        raise ContextError(f"The prompt has {len(tokens)} tokens, which leaves no room in a context of {context}.")
    if not all(0 <= token < vocab for token in tokens):
        raise RequestError(f"The prompt holds a token id outside 0 to {vocab - 1}.")
    if not all(0 <= token < vocab for token in request.sampling.ids):
        raise RequestError(f"The sampling names a token id outside 0 to {vocab - 1}.")
    if request.max_tokens is not None and request.max_tokens < request.sampling.min_tokens:
        most = request.max_tokens
        raise RequestError(f"min_tokens must be at most max_tokens ({most}), not {request.sampling.min_tokens}.")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise RequestError(f"max_tokens must be a whole number from 1 on, not {request.max_tokens!r}.")
