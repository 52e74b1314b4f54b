"""A row: one answer on its way, from the queue to its last token, and what of it the model has seen.

A row waits without memory, then reads its prompt, then speaks. Where memory is short it may have to stop: what was
launched is read, its memory is given back, and it waits again, with all that it has said; its reader sees a pause.
Also here is what a request must be to be served at all.
"""

from __future__ import annotations

import math
import secrets
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import mlx.core as mx
import numpy as np

from ..contracts import HeardWindow, KeyStore, LayerMemory, SequenceMemory
from ..core import Closing, ContextError, Event, Finish, Priority, Request, RequestError, Sampling, ShownTile, Usage
from ..ops.adapters import Adapter, scope_with
from .closing import ThoughtBudget
from .constraint import FREE, ConstraintError, Guide
from .draft.base import NO_DRAFTS, Drafting, Drafts
from .handle import Handle
from .keys import keys_of
from .sampler import Ahead, Draw

MOST_CHOICES = 128  # of one request
PATIENCE = 30.0  # seconds after which a batch row is as urgent as any


@dataclass(slots=True)
class NoMemory:
    """Of a row that waits."""

    length: int = 0
    context: int = 0
    adapter: Adapter | None = None
    heard: HeardWindow | None = None
    store: KeyStore | None = None
    layers: Sequence[LayerMemory | None] = ()
    bytes: int = 0
    points: Sequence[int] = ()

    def reusable(self, length: int) -> int:
        return 0

    def rewind(self, length: int) -> bool:
        return length == 0

    def fork(self) -> NoMemory:
        return NoMemory()

    def arrays(self) -> list[mx.array]:
        return []


class EventReader(Protocol):
    """Who takes an answer's events in place of its handle."""

    def take(self, choice: int, event: Event) -> None: ...


@dataclass(slots=True, eq=False)
class Row:
    """`memory.length` tells how many of `tokens` (and of `ahead`) the model has seen."""

    handle: Handle
    tokens: array[int]  # the prompt, then what was read
    limit: int  # tokens at which it ends
    sampling: Sampling
    seed: int
    choice: int = 0  # which of its request's answers
    ranking: EventReader | None = None  # where only the best of several are told
    unborn: list[Row] = field(default_factory=list)  # its request's other answers, until it has read the prompt
    memory: SequenceMemory = field(default_factory=NoMemory)
    cached: int = 0
    began: float | None = None
    first: float | None = None  # when the first token was read
    ahead: Ahead | None = None
    surprise: float | None = None  # of the last token that was read, where its sampling goes by that
    goal: int = 0  # it runs alone until its memory is this long: a batch that it was in broke
    guide: Guide | None = None  # what its answer must be
    thoughts: ThoughtBudget | None = None  # how long they may grow
    greedy: bool = False  # each token is the likeliest, and nothing is told of others
    drafting: Drafting = field(default_factory=Drafting)
    still: int = 0  # passes since it was last in one
    leaving: bool = False  # it must stop once what was launched of it is read
    stopped: bool = False  # it had to stop, and has not begun again
    behind: tuple[Row, int] | None = None  # who reads the same tokens, and up to where
    shown: dict[bytes, mx.array] = field(default_factory=dict)  # of pictures that it has yet to read, by digest
    prompt_keys: array[int] | None = None  # of a prompt that shows pictures, once somebody has asked
    blind: int | None = None  # where the first picture stands that is not encoded yet
    apart: bool = False  # whether its pictures turn by line and column

    @classmethod
    def of(cls, handle: Handle, context: int, choice: int = 0) -> Row:
        request = handle.request
        limit, seed = context, request.sampling.seed
        if request.max_tokens is not None:
            limit = min(limit, len(request.tokens) + request.max_tokens)
        seed = secrets.randbits(64) if seed is None else (seed + choice) % 2**64
        guide = None if handle.grammar is None else handle.grammar.guide()
        row = cls(handle, array("i", request.tokens), limit, request.sampling, seed, choice, guide=guide)
        if request.closing is not None:
            row.thoughts = ThoughtBudget(request.closing)
        row.apart = any(one.tile.shape is not None for one in request.media)
        row.greedy = guide is None and row.thoughts is None and request.sampling.best_alone
        return row

    def begin(self, memory: SequenceMemory, cached: int, now: float) -> None:
        self.memory, self.still, self.stopped, self.blind = memory, 0, False, self._unread(memory)
        memory.adapter = self.handle.adapter
        if self.began is None:
            self.cached, self.began = min(cached, self.prompt), now

    def stop(self) -> None:
        """Its memory is somebody else's from now on."""
        self.memory, self.ahead, self.leaving, self.stopped = NoMemory(), None, False, True

    def begin_anew(self, memory: SequenceMemory) -> None:
        """From the tokens that were read."""
        self.memory, self.cached, self.ahead, self.leaving = memory, 0, None, False
        self.blind = self._unread(memory)
        memory.adapter = self.handle.adapter

    def _unread(self, memory: SequenceMemory) -> int | None:
        """Where the first picture stands that it has yet to read."""
        return next((one.first for one in self.media if one.end > memory.length), None)

    def tell(self, event: Event) -> None:
        if self.ranking is not None:
            self.ranking.take(self.choice, event)
        else:
            self.handle.post(replace(event, choice=self.choice) if self.choice else event)

    def read_prompt(self, length: int) -> None:
        """Up to there, or so it will be in a moment."""
        self.handle.read = min(length, self.prompt)

    @property
    def media(self) -> Sequence[ShownTile]:
        return self.handle.request.media

    @property
    def keys(self) -> array[int]:
        """Its tokens as the prefix cache knows them: what stands for a picture hangs on the picture."""
        if not self.media:
            return self.tokens
        if self.prompt_keys is None:
            self.prompt_keys = keys_of(self.tokens[: self.prompt], self.media)
        return self.prompt_keys + self.tokens[self.prompt :]

    @property
    def scope(self) -> str:
        return scope_with(self.handle.request.scope, self.handle.adapter)

    @property
    def prompt(self) -> int:
        return len(self.handle.request.tokens)

    @property
    def unseen(self) -> int:
        """Tokens that are there and that the model has yet to see."""
        return len(self.tokens) - self.memory.length

    @property
    def wanted(self) -> int:
        """Prompt tokens for the next passes: before the last, where all answers part, its request's others are born."""
        length = self.memory.length
        point = next((point - length for point in self.memory.points if point > length), self.unseen)
        if self.blind is not None:
            point = min(point, max(0, self.blind - length))
        return min(point, self.unseen - 1 if self.unborn and self.unseen > 1 else self.unseen)

    def whole_pictures(self, end: int) -> int:
        """Or further, where what is read up to there would end among the rows of a picture that see each other."""
        return next((one.end for one in self.media if one.whole and one.first < end < one.end), end)

    @property
    def speaks(self) -> bool:
        """Whether all but its last token was seen, and that one is the model's."""
        return self.ahead is not None or (self.first is not None and self.unseen == 1)

    @property
    def ends_ahead(self) -> bool:
        """Whether the token that is not read yet is its last."""
        return self.ahead is not None and len(self.tokens) + 1 >= self.limit

    def over(self, now: float) -> Event | None:
        """Its end, where nobody wants it any more or its time is up."""
        if self.handle.cancelled:
            return Event(finish=Finish.CANCELLED)
        deadline = self.handle.request.deadline
        if deadline is None or now - self.handle.submitted < deadline:
            return None
        how = "was still waiting" if self.first is None else "was not finished"
        return Event(finish=Finish.EXPIRED, reason=f"The answer {how} when its deadline of {deadline:g} s passed.")

    def urgent(self, now: float) -> bool:
        return self.handle.request.priority is Priority.INTERACTIVE or now - self.handle.submitted >= PATIENCE

    @property
    def can_go_back(self) -> bool:
        """Whether its memory could forget its last tokens."""
        if self.drafting.fixed is None:
            length = self.memory.length - 1
            self.drafting.fixed = length > 0 and self.memory.reusable(length) != length
        return not self.drafting.fixed

    def settle(self) -> bool:
        """Forget the drafts that were not said. False: its memory cannot."""
        length = len(self.tokens) - 1
        return self.memory.length <= length or self.memory.rewind(length)

    def allowed(self, drafts: Drafts) -> Drafts:
        """As many of them as what its answer must be lets come."""
        if self.thoughts is not None:
            drafts = drafts.cut(self.thoughts.fits(drafts.tokens))
        if self.guide is None:
            return drafts
        try:
            return drafts.cut(self.guide.fits(drafts.tokens))
        except ConstraintError:  # which ends the answer where its next mask is asked for
            return NO_DRAFTS

    @property
    def needs_last(self) -> bool:
        """Whether its next token can only be drawn once the one before is read."""
        return self.guide is not None or self.thoughts is not None or self.sampling.needs_last

    def draws(self, drafts: Drafts) -> list[Draw]:
        """Of the token that comes next, and of those after each draft if it is right."""
        first = self.draw
        if not drafts:
            return [first]
        known, text = len(self.tokens), self.tokens
        if first.sampling.needs_last:
            text = text + array("i", drafts.tokens)
        draws = [replace(first, index=first.index + i, text=text[: known + i]) for i in range(len(drafts) + 1)]
        if self.guide is None:
            return draws
        masks = self.guide.along(drafts.tokens)
        masks += [FREE] * (len(draws) - len(masks))  # behind the end of what it must be: nothing is read there
        return [first, *(replace(draw, bits=mask.bits) for draw, mask in zip(draws[1:], masks[1:], strict=True))]

    @property
    def draw(self) -> Draw:
        """Of the token that comes next, after `ahead`."""
        request, unread = self.handle.request, 0 if self.ahead is None else 1
        return Draw(
            sampling=self.sampling,
            seed=self.seed,
            index=len(self.tokens) + unread - self.prompt,
            text=self.tokens,
            prompt=self.prompt,
            stop_ids=request.stop_ids,
            surprise=self.surprise,
            bits=self._bits,
        )

    @property
    def _bits(self) -> np.ndarray | None:
        """Of what may come next."""
        free = None if self.guide is None else self.guide.mask().bits
        return free if self.thoughts is None else self.thoughts.bits(free)

    def usage(self, now: float) -> Usage:
        first = now if self.first is None else self.first
        began = first if self.began is None else self.began
        return Usage(self.prompt, self.cached, len(self.tokens) - self.prompt, first - began, now - first)


def check(request: Request, vocab: int, context: int) -> None:
    tokens = request.tokens
    if not tokens:
        raise RequestError("The prompt is empty.")
    if len(tokens) >= context:
        message = f"The prompt has {len(tokens)} tokens, which leaves no room in a context of {context}."
        raise ContextError(message, len(tokens), context)
    if not 0 <= min(tokens) <= max(tokens) < vocab:
        raise RequestError(f"The prompt holds a token id outside 0 to {vocab - 1}.")
    if not all(0 <= token < vocab for token in request.sampling.ids):
        raise RequestError(f"The sampling names a token id outside 0 to {vocab - 1}.")
    if request.max_tokens is not None and request.max_tokens < request.sampling.min_tokens:
        most = request.max_tokens
        raise RequestError(f"min_tokens must be at most max_tokens ({most}), not {request.sampling.min_tokens}.")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise RequestError(f"max_tokens must be a whole number from 1 on, not {request.max_tokens!r}.")
    if request.closing is not None:
        check_closing(request.closing, vocab)
    check_media(request)
    if request.deadline is not None and not 0.0 < request.deadline < math.inf:
        raise RequestError(f"deadline must be a number of seconds above 0, not {request.deadline!r}.")
    if not 1 <= request.n <= MOST_CHOICES:
        raise RequestError(f"n must be a whole number from 1 to {MOST_CHOICES}, not {request.n!r}.")
    if request.best_of is not None and not request.n <= request.best_of <= MOST_CHOICES:
        limits = f"from n ({request.n}) to {MOST_CHOICES}"
        raise RequestError(f"best_of must be a whole number {limits}, not {request.best_of!r}.")


def check_media(request: Request) -> None:
    """Its pictures lie in the prompt, in order, and take as many places as they have rows."""
    end = 0
    for one in request.media:
        if sum(count for _, count in one.spans) != one.tile.rows:
            raise RequestError("A picture takes another number of tokens in the prompt than it has rows.")
        if one.tile.shape is not None and (len(one.spans) > 1 or math.prod(one.tile.shape) != one.tile.rows):
            raise RequestError("A picture whose rows turn by line and column must stand in one piece.")
        for first, count in one.spans:
            if first < end or count < 1:
                raise RequestError("Pictures overlap in the prompt.")
            end = first + count
    if end >= len(request.tokens):
        raise RequestError("A text must follow on the last picture of a prompt.")


def check_closing(closing: Closing, vocab: int) -> None:
    if closing.budget < 0:
        raise RequestError(f"The budget of thoughts must be a whole number from 0 on, not {closing.budget!r}.")
    if not closing.forced or not all(0 <= token < vocab for token in closing.forced):
        raise RequestError("This model has no tokens that could end its thoughts: leave out their budget.")
