"""Who goes through the model next, and what becomes of what came out. Computes nothing itself.

Requests start first come first served, up to RUNNING at once. A pass holds one row of everybody who
decodes and, beside them, a bounded number of prompt tokens of those who are not that far: a long
prompt stalls neither those who speak nor short prompts behind it. Knows no text.
"""

from __future__ import annotations

import secrets
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..contracts import SequenceMemory
from ..core import ContextError, Event, Finish, Refusal, Request, RequestError, Usage
from ..loading.model import Runnable
from ..spec import ModelError
from .handle import Handle
from .prefix_cache import PrefixCache
from .sampler import Ahead, Draw

CHUNK = 512  # prompt tokens in one pass; a cancel waits for one of these at most
SHARED_CHUNK = 128  # the same while others decode: they wait for it
RUNNING = 8
WAITING = 256  # requests beyond that are refused
WHY_NO_TOKEN = {
    -1: "The model computed something that is not a number.",
    -2: "No token is left to choose from: what the request allows, bans and biases leaves none.",
}

Claims = Sequence[tuple[int, int]]  # of those that run: tokens that they will remember, bytes that they hold already


@dataclass(slots=True)
class Running:
    """One request on its way. `memory.length` tells how many of `tokens` (and of `ahead`) the model has seen."""

    handle: Handle
    tokens: array[int]  # the prompt, then what was read
    limit: int  # tokens at which it ends
    seed: int
    memory: SequenceMemory
    cached: int
    began: float
    first: float | None = None  # when the first token was read
    ahead: Ahead | None = None
    surprise: float | None = None  # of the last token that was read, where its sampling goes by that
    goal: int = 0  # it runs alone until its memory is this long: a batch that it was in broke

    @property
    def prompt(self) -> int:
        return len(self.handle.request.tokens)

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


@dataclass(frozen=True, slots=True)
class PassPart:
    """What of one request goes through the model: `ids`, or where there are none the token that is ahead."""

    running: Running
    ids: Sequence[int] | None
    samples: bool  # whether its last row is where the next token is chosen
    end: int  # how long its memory is afterwards

    @property
    def count(self) -> int:
        return 1 if self.ids is None else len(self.ids)


@dataclass(frozen=True, slots=True)
class PassPlan:
    members: tuple[Running, ...]
    parts: tuple[PassPart, ...]  # those that decode first
    ready: tuple[tuple[Running, Ahead], ...]  # what can be read while the parts are computed
    alone: bool  # a request of a batch that broke, by itself


class Scheduler:
    def __init__(
        self,
        model: Runnable,
        context: int,
        kept_bytes: int,
        room_for: Callable[[int, int, Claims], str | None] = lambda tokens, rows, claims: None,
    ) -> None:
        """`room_for` (tokens, rows a pass, what others will hold): None, or why a prompt cannot begin now."""
        self._model, self._context, self._room_for = model, context, room_for
        self.full: str | None = None  # why nothing new may begin
        self._prefixes = PrefixCache(model, context, kept_bytes)
        self._waiting: deque[Handle] = deque()
        self._running: list[Running] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def retrying(self) -> bool:
        """Whether somebody runs alone, after a pass that broke."""
        return any(running.goal for running in self._running)

    @property
    def prefix_bytes(self) -> int:
        return self._prefixes.bytes

    @property
    def cache_bytes(self) -> int:
        return self._prefixes.bytes + sum(running.memory.bytes for running in self._running)

    def add(self, handle: Handle) -> None:
        if len(self._waiting) < WAITING:
            self._waiting.append(handle)
        else:
            reason = f"The queue is full: {WAITING} requests are waiting already; try again later."
            refuse(handle, reason, Refusal.BUSY)

    def plan(self) -> PassPlan | None:
        """The next pass; None: nobody wants one."""
        for running in [r for r in self._running if r.handle.cancelled]:
            self._finish(running, Finish.CANCELLED)
        for handle in [h for h in self._waiting if h.cancelled]:
            self._waiting.remove(handle)
            handle.post(Event(finish=Finish.CANCELLED))
        while self._waiting and len(self._running) < RUNNING and self._admit(self._waiting[0]):
            self._waiting.popleft()
        alone = [running for running in self._running if running.goal][:1]
        return plan_for(alone or self._running, bool(alone)) if self._running else None

    def commit(self, ready: Iterable[tuple[Running, Ahead]]) -> None:
        """Read the tokens and say so; end the requests that end there."""
        for running, ahead in ready:
            self._say(running, ahead.samples.token(ahead.row), ahead)

    def broke(self, plan: PassPlan, error: Exception) -> None:
        """The request that broke ends. Of several any one may be it, so each begins anew by itself."""
        if plan.alone or len(self._running) == 1:
            known = isinstance(error, ModelError | RequestError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            for running in plan.members:
                self._finish(running, Finish.FAILED, reason=reason)
            self._prefixes.clear()
        else:
            self.begin_anew(plan)

    def begin_anew(self, plan: PassPlan) -> None:
        """Everybody, from the tokens that were read, and alone until where the pass that broke had brought him."""
        self._prefixes.clear()
        ends = {id(part.running): part.end for part in plan.parts}
        for running in self._running:
            running.goal = max(running.goal, ends.get(id(running), running.memory.length))
            running.memory, running.ahead, running.cached = self._model.new_sequence(self._context), None, 0

    def close(self, reason: str) -> None:
        for running in self._running[:]:
            self._finish(running, Finish.CANCELLED)
        for handle in self._waiting:
            handle.post(Event(finish=Finish.CANCELLED, reason=reason))
        self._waiting.clear()

    def forget(self, wanted: int) -> None:
        """Of what ended requests left, at least so many bytes, or all of it."""
        self._prefixes.shrink(wanted)

    def end_youngest(self, reason: str) -> None:
        if self._running:
            self._finish(self._running[-1], Finish.FAILED, reason=reason)

    def refuse_all(self, reason: str) -> None:
        """What the weights are views of is gone: nothing that was computed may be believed."""
        for running in self._running[:]:
            self._finish(running, Finish.FAILED, reason=reason)
        while self._waiting:
            refuse(self._waiting.popleft(), reason, Refusal.BUSY)
        self._prefixes.clear()

    def _has_room(self, handle: Handle) -> bool | None:
        """None: not now, but when another request has ended. False: it was refused."""
        if self.full is not None:
            refuse(handle, self.full, Refusal.BUSY)
            return False
        tokens = len(handle.request.tokens)
        claims = [(len(running.tokens), running.memory.bytes) for running in self._running]
        if self._room_for(tokens, CHUNK, claims) is None:
            return True
        self._prefixes.clear()  # what may come is worth less than what is here
        reason = self._room_for(tokens, CHUNK, claims)
        if reason is not None and not self._running:
            refuse(handle, reason, Refusal.CONTEXT)
            return False
        return True if reason is None else None

    def _admit(self, handle: Handle) -> bool:
        """False: it must wait."""
        request = handle.request
        try:
            check(request, self._model.vocab, self._context)
        except RequestError as error:
            refuse(handle, str(error), error.refusal)
            return True
        room = self._has_room(handle)
        if not room:
            return room is False
        limit, seed = self._context, request.sampling.seed
        if request.max_tokens is not None:
            limit = min(limit, len(request.tokens) + request.max_tokens)
        try:
            memory, cached = self._prefixes.memory_for(request.tokens)
        except Exception as error:  # noqa: BLE001 one request ends, the thread lives on
            handle.post(Event(finish=Finish.FAILED, reason=f"{type(error).__name__}: {error}"))
            return True
        seed = secrets.randbits(64) if seed is None else seed
        self._running.append(
            Running(handle, array("i", request.tokens), limit, seed, memory, cached, began=time.perf_counter())
        )
        return True

    def _say(self, running: Running, token: int, ahead: Ahead) -> None:
        if token < 0:
            self._finish(running, Finish.FAILED, reason=WHY_NO_TOKEN[token], keep=False)
            return
        running.first = running.first or time.perf_counter()
        running.tokens.append(token)
        if running.handle.request.sampling.mirostat_tau:
            running.surprise = ahead.samples.surprise(ahead.row)
        if token in running.handle.request.stop_ids:
            self._finish(running, Finish.STOP)
            return
        logprob = ahead.samples.logprob(ahead.row)
        news = Event((token,), () if logprob is None else (logprob,))
        if len(running.tokens) >= running.limit:
            self._finish(running, Finish.LENGTH, news)
        else:
            running.handle.post(news)

    def _finish(
        self,
        running: Running,
        finish: Finish,
        last: Event | None = None,
        *,
        reason: str | None = None,
        keep: bool = True,
    ) -> None:
        self._running.remove(running)
        if keep and finish is not Finish.FAILED:
            self._prefixes.keep(running.tokens, running.memory)
        last = last or Event()
        running.handle.post(Event(last.tokens, last.logprobs, finish, reason, running.usage))


def plan_for(members: Sequence[Running], alone: bool = False) -> PassPlan:
    speaking = [running for running in members if running.ahead is not None]
    reading = [running for running in members if running.ahead is None]
    parts = [
        PassPart(running, None, True, running.memory.length + 1)
        for running in speaking
        if len(running.tokens) + 1 < running.limit
    ]
    left = [len(running.tokens) - running.memory.length for running in reading]
    for running, count in zip(reading, split_budget(left, SHARED_CHUNK if parts else CHUNK), strict=True):
        if count:
            start, end = running.memory.length, running.memory.length + count
            parts.append(PassPart(running, running.tokens[start:end], end == len(running.tokens), end))
    ready = tuple((running, running.ahead) for running in speaking if running.ahead is not None)
    return PassPlan(tuple(members), tuple(parts), ready, alone)


def split_budget(wanted: Sequence[int], budget: int) -> list[int]:
    """What each gets of the budget: the oldest half of it, so that it gets on; else whoever needs least comes first."""
    given = [0] * len(wanted)
    for index, most in ((0, budget // 2), *((i, budget) for i in sorted(range(len(wanted)), key=wanted.__getitem__))):
        if wanted:
            more = min(wanted[index] - given[index], most, budget)
            given[index] += more
            budget -= more
    return given


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
