"""One thread that owns MLX: token ids in, events out. One sequence at a time, first come first served.

Forever: plan what runs next, run it, commit what came out. Step n+1 is built and on its way before
step n is read. The model is loaded on this thread too, because MLX's streams belong to threads. What
the last request left in memory serves the next one as far as their tokens agree. Knows no text.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..core import Event, Finish, Memory, Request, RequestError, Usage
from ..memory.machine import available_bytes, total_bytes
from ..spec import ModelError
from .handle import Handle
from .model import Runnable
from .sampler import Sample, Sampler

CHUNK = 512  # prompt tokens in one pass; a cancel waits for one of these at most


@dataclass(slots=True)
class Running:
    """One request on its way. `memory.length` tells how many of `tokens` the model has seen."""

    handle: Handle
    tokens: list[int]  # the prompt, then what was read
    limit: int  # tokens at which it ends
    sampler: Sampler
    began: float
    memory: Any = None  # until the first pass
    cached: int = 0
    first: float | None = None  # when the first token was read
    ahead: Sample | None = None  # built, not read

    @property
    def prompt(self) -> int:
        return len(self.handle.request.tokens)

    @property
    def usage(self) -> Usage:
        now = time.perf_counter()
        first = self.first or now
        return Usage(self.prompt, self.cached, len(self.tokens) - self.prompt, first - self.began, now - first)


class Engine:
    def __init__(self, model: Runnable, context: int) -> None:
        """Use `start`: whoever makes an Engine must be on the thread that runs it."""
        self.model, self.context = model, context
        self._inbox: queue.SimpleQueue[Handle | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._running: Running | None = None
        self._kept: tuple[list[int], Any] | None = None  # tokens and memory of the last request
        self._thread = threading.current_thread()
        self._weights = mx.get_active_memory()

    @classmethod
    def start(cls, load: Callable[[], Runnable], context: int | None = None) -> Engine:
        """Load the model on a new thread and serve it from there; what loading raises is raised here."""
        born: queue.SimpleQueue[Engine | BaseException] = queue.SimpleQueue()

        def live() -> None:
            try:
                model = load()
                engine = cls(model, allowed_context(model, context))
            except BaseException as error:  # noqa: BLE001 whoever waits for us raises it
                born.put(error)
                return
            born.put(engine)
            engine._serve()
            # MLX ends this thread's stream by itself only as the process dies, and that race can abort it
            mx.synchronize()
            mx.clear_streams()

        threading.Thread(target=live, name="mlxrun-engine", daemon=True).start()
        found = born.get()
        if isinstance(found, BaseException):
            raise found
        atexit.register(found.close)
        return found

    def submit(self, request: Request) -> Handle:
        handle = Handle(request)
        self._inbox.put(handle)
        if self._closing.is_set():  # the thread may have read its inbox for the last time
            handle.post(Event(finish=Finish.CANCELLED, reason="The engine is closed."))
        return handle

    def memory(self) -> Memory:
        """As it is right now; from any thread, nothing is computed for it."""
        active = mx.get_active_memory()
        return Memory(
            self._weights,
            max(0, active - self._weights),
            active,
            mx.get_peak_memory(),
            available_bytes(),
            total_bytes(),
        )

    def close(self) -> None:
        """End what runs, refuse what waits, and wait for the thread."""
        self._closing.set()
        self._inbox.put(None)
        self._thread.join()
        atexit.unregister(self.close)

    def _serve(self) -> None:
        while (running := self._plan()) is not None:
            try:
                self._commit(running, self._run(running))
            except Exception as error:  # noqa: BLE001 one request ends, the thread lives on
                known = isinstance(error, ModelError | RequestError)
                self._finish(running, Finish.FAILED, reason=str(error) if known else f"{type(error).__name__}: {error}")
                self._kept = None

    def _plan(self) -> Running | None:
        """Whose turn it is; waits for a request if there is none. None: closed."""
        while True:
            if self._running is None:
                handle = self._inbox.get()
                if handle is None:
                    self._refuse_waiting()
                    return None
                self._running = self._admit(handle)
            elif self._running.handle.cancelled or self._closing.is_set():
                self._finish(self._running, Finish.CANCELLED)
            else:
                return self._running

    def _run(self, running: Running) -> Sample | None:
        """Build and start the next pass; return the sample that can be read meanwhile."""
        if running.memory is None:
            running.memory, running.cached = self._memory_for(running.handle.request.tokens)
        memory, ready = running.memory, running.ahead
        if memory.length < running.prompt:
            chunk = running.tokens[memory.length : memory.length + CHUNK]
            hidden = self.model(mx.array(chunk, mx.int32), [(memory, len(chunk))])
            if memory.length < running.prompt:
                mx.eval(memory.arrays())  # the hidden rows of these are of no use to anyone
                return None
        elif ready is not None and len(running.tokens) + 1 < running.limit:
            hidden = self.model(ready.token, [(memory, 1)])
        else:
            running.ahead = None
            return ready
        running.ahead = running.sampler(self.model.logits(hidden[-1:]))
        mx.async_eval(running.ahead.arrays, memory.arrays())
        return ready

    def _commit(self, running: Running, sample: Sample | None) -> None:
        """Read one token and say so; end the request where it ends."""
        if sample is None:
            return
        token, logprob = sample.read(), sample.read_logprob()
        if token < 0:
            raise ArithmeticError("the model computed something that is not a number")
        running.first = running.first or time.perf_counter()
        running.tokens.append(token)
        if token in running.handle.request.stop_ids:
            self._finish(running, Finish.STOP)
            return
        news = Event((token,), () if logprob is None else (logprob,))
        if len(running.tokens) >= running.limit:
            self._finish(running, Finish.LENGTH, news)
        else:
            running.handle.post(news)

    def _admit(self, handle: Handle) -> Running | None:
        request = handle.request
        try:
            check(request, self.model.vocab, self.context)
            sampler = Sampler(request.sampling)
        except RequestError as error:
            handle.post(Event(finish=Finish.REFUSED, reason=str(error)))
            return None
        limit = self.context
        if request.max_tokens is not None:
            limit = min(limit, len(request.tokens) + request.max_tokens)
        return Running(handle, list(request.tokens), limit, sampler, time.perf_counter())

    def _memory_for(self, tokens: Sequence[int]) -> tuple[Any, int]:
        """A memory and how many of the tokens it holds already; at least the last one must run."""
        kept, self._kept = self._kept, None
        if kept is not None:
            seen, memory = kept
            length = memory.reusable(shared_prefix(seen[: memory.length], tokens[:-1]))
            if length and memory.rewind(length):
                return memory, length
        return self.model.new_sequence(self.context), 0

    def _finish(self, running: Running, finish: Finish, last: Event | None = None, reason: str | None = None) -> None:
        self._running = None
        if running.memory is not None:
            self._kept = (running.tokens, running.memory)
        last = last or Event()
        running.handle.post(Event(last.tokens, last.logprobs, finish, reason, running.usage))

    def _refuse_waiting(self) -> None:
        while not self._inbox.empty():
            if (waiting := self._inbox.get()) is not None:
                waiting.post(Event(finish=Finish.CANCELLED, reason="The engine is closed."))


def allowed_context(model: Runnable, wanted: int | None) -> int:
    if wanted is not None and not 2 <= wanted <= model.context:
        raise RequestError(f"A context of {wanted} tokens was asked for; this model takes from 2 to {model.context}.")
    return wanted or model.context


def check(request: Request, vocab: int, context: int) -> None:
    tokens = request.tokens
    if not tokens:
        raise RequestError("The prompt is empty.")
    if len(tokens) >= context:
        raise RequestError(f"The prompt has {len(tokens)} tokens, which leaves no room in a context of {context}.")
    if not all(0 <= token < vocab for token in tokens):
        raise RequestError(f"The prompt holds a token id outside 0 to {vocab - 1}.")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise RequestError(f"max_tokens must be a whole number from 1 on, not {request.max_tokens!r}.")


def shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
