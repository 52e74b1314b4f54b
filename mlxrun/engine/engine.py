"""One thread that owns MLX: token ids in, events out, many requests at once.

Forever: plan the next pass, run it, commit what came out of the last one. Step n+1 is built and on its way
before step n is read. The model is loaded on this thread too, because MLX's streams belong to threads.
Knows no text.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable, Iterable

import mlx.core as mx

from ..core import Event, Finish, Memory, Refusal, Request, RequestError, TokenVocabulary, allowed_context
from ..loading.file_guard import FileGuard
from ..loading.model import Runnable, Unloaded
from ..loading.used import Used
from ..memory.claim import Claim, together
from ..memory.machine import available_bytes, total_bytes
from . import threads
from .adapters import adapter_of
from .aids import Aids
from .answer_check import AnswerCheck
from .awake import Awake
from .constraint import Grammars
from .draft.speculation import Speculation, SpeculationCounts
from .embedding import Embeddings, ReadingJob
from .handle import Handle
from .idle_work import Idle, IdleWork
from .kernel_guard import KernelGuard
from .live_handles import LiveHandles
from .memory_guard import MemoryGuard, give_back_all
from .plan import PassPlan
from .request import MOST_CHOICES, check
from .runner import Runner, computed
from .scheduler import Scheduler
from .statistics import Statistics
from .waiting import MOST

__all__ = ["Engine", "check"]

Clock = Callable[[], float]  # seconds

CLOSED = "The engine is closed."
DRAINING = "The engine is about to close: what was asked before is still answered, nothing new is taken."
KEPT_SHARE = 0.125  # of the free memory, what ended requests may leave behind
ABANDON_SECONDS = 10.0  # for a load to notice that nobody wants it any more
MEASURE_SECONDS = 0.5  # between two looks at what the sequences hold


class Draining(RequestError):
    """Nothing is wrong with the request; somebody else may serve it."""

    refusal = Refusal.BUSY


class Engine:
    def __init__(
        self,
        model: Runnable,
        context: int,
        idle: Idle | None = None,
        clock: Clock = time.perf_counter,
        queue_limit: int = MOST,
        vocabulary: Callable[[], TokenVocabulary] | None = None,
        speculation: Speculation | None = None,
    ) -> None:
        """Use `start`: whoever makes an Engine must be on the thread that runs it."""
        self.model, self.context = model, context
        self._guard, self._files = MemoryGuard(model), FileGuard(model)
        kept = int(KEPT_SHARE * available_bytes())
        self._clock, self._speculation = clock, speculation or Speculation()
        self._scheduler = Scheduler(model, context, kept, self._guard, clock, queue_limit, self._speculation)
        self._runner, self._kernels = Runner(model, self._speculation.see), KernelGuard(model)
        self._embeddings = Embeddings(model)
        self._grammars = Grammars(vocabulary, model.vocab)
        self._check: AnswerCheck | None = None
        self._awake, self._live = Awake(), LiveHandles()
        self._idle = IdleWork(None if idle is None else idle(model), self._give_back)
        self.counters = self._scheduler.counters
        self._inbox: queue.SimpleQueue[tuple[Handle, ...]] = queue.SimpleQueue()
        self._draining, self._closing = threading.Event(), threading.Event()
        self._ended = threading.Event()  # `start` has the one that comes
        self._cache_bytes, self._prefix_bytes, self._paged_bytes, self._measured = 0, 0, 0, 0.0
        self._idle_since: float | None = None  # the device

    @classmethod
    def start(
        cls,
        load: Callable[[], Runnable],
        context: int | None = None,
        abandon: Callable[[], None] = lambda: None,
        idle: Idle | None = None,
        clock: Clock = time.perf_counter,
        queue_limit: int = MOST,
        aids: Aids | None = None,
    ) -> Engine:
        """Load the model on a thread of its own and serve it from there; what loading raises is raised here.

        What `idle` makes of the model is gone through a step at a time, on that thread, while nobody asks;
        then the memory that only requests need is given back.
        By `clock` it is found how much a pass may hold, and when a deadline has passed. Beyond `queue_limit` requests
        that wait the next is refused.
        Interrupted meanwhile, we call `abandon`, which should make `load` raise, and wait a moment for that.
        """
        aids = aids or Aids()
        born: queue.SimpleQueue[Engine | BaseException] = queue.SimpleQueue()

        def live() -> None:
            try:
                model = load()
                allowed = allowed_context(context, model.context) or model.context
                engine = cls(model, allowed, idle, clock, queue_limit, aids.vocabulary, aids.speculate(model, allowed))
                engine._kernels.try_out()
                if aids.check_answers:
                    engine._check_answers()
            except BaseException as error:  # noqa: BLE001 whoever waits for us raises it
                born.put(error)
                return
            born.put(engine)
            engine._serve()
            engine._forget()
            del model
            give_back_all()

        ended = threads.begin(live)
        try:
            found = born.get()
        except KeyboardInterrupt:
            abandon()
            ended.wait(ABANDON_SECONDS)
            raise
        if isinstance(found, BaseException):
            ended.wait()
            raise found
        found._ended = ended
        atexit.register(found.close)
        return found

    def submit(self, request: Request) -> Handle:
        """A request for one answer."""
        if request.n != 1:
            raise RequestError(f"n is {request.n}: several answers are asked for with submit_choices.")
        return self.submit_choices(request)[0]

    def submit_choices(self, request: Request) -> tuple[Handle, ...]:
        """A handle for each of its n answers."""
        now = self._clock()
        handles = tuple(Handle(request, now) for _ in range(max(1, min(request.n, MOST_CHOICES))))
        try:
            check(request, self.model.vocab, self.context)
            if self._draining.is_set() and not self._closing.is_set():
                raise Draining(DRAINING)
            self._live.add(handles)
            for handle in handles:
                handle.adapter = adapter_of(self.model, request.adapter)
            if request.constraint is not None and not self._closing.is_set():
                grammar = self._grammars.compiled(request.constraint)
                for handle in handles:
                    handle.grammar = grammar
        except RequestError as error:
            for choice, handle in enumerate(handles):
                refused = Event(finish=Finish.REFUSED, reason=str(error), refusal=error.refusal, choice=choice)
                handle.post(refused)
            return handles
        self._inbox.put(handles)
        if self._closing.is_set():  # the thread may have read its inbox for the last time
            tell_closed(handles)
        return handles

    def embed(self, job: ReadingJob) -> None:
        """What it asks for comes in `job.done`."""
        self._embeddings.add(job)
        self._inbox.put(())
        if self._closing.is_set():
            self._embeddings.fail(CLOSED)

    def memory(self) -> Memory:
        """As it is right now; from any thread, nothing is computed for it."""
        return memory_of((self,))

    @property
    def claim(self) -> Claim:
        """What it holds of this machine, for who loads another model beside it; from any thread."""
        held = self.model.holdings
        activations = 0 if held.budget is None else held.budget.activations
        own = Claim(held.used.own + held.adapters.nbytes + self._cache_bytes, held.used.mapped, activations)
        return together((own, self._speculation.claim))

    def used(self) -> Used:
        """What of this machine is really used; from any thread."""
        return self._guard.used.with_refused(self._kernels.refused)

    @property
    def drafts(self) -> SpeculationCounts:
        """What was drafted, and what of it was right; from any thread."""
        return self._speculation.counts

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of this model as it stands here."""
        used = self.used()
        wired = () if used.wired is None else (used.wiring,)
        given_up = self.drafts.given_up
        told = () if given_up is None else (given_up,)
        if self._check is not None and self._check.differed:
            told = (*told, f"{self._check.differed} answers came out otherwise when they were computed alone.")
        return tuple(dict.fromkeys((*self.model.notes, *used.fallbacks, *wired, *told)))

    @property
    def fault(self) -> str | None:
        """Why nobody is answered any more, until the model is loaded anew; from any thread."""
        return self._files.reason

    def statistics(self) -> Statistics:
        """What was counted until now, and how things stood a moment ago; from any thread."""
        return self.counters.snapshot()

    def lose(self, reason: str) -> None:
        """Nothing is computed any more: whoever waits for an answer, and whoever asks from now on, is told so. From any
        thread, also while a pass never ends."""
        self._live.lose(reason)

    def drain(self, seconds: float) -> None:
        """Take nothing new, let what was asked end within so many seconds, and close."""
        self._draining.set()
        self._inbox.put(())
        self._ended.wait(seconds)
        self.close()

    def close(self) -> None:
        """End what runs, refuse what waits, and wait for the thread."""
        self._closing.set()
        self._inbox.put(())
        self._ended.wait()
        atexit.unregister(self.close)

    def _check_answers(self) -> None:
        self._check = AnswerCheck(self.model, self.context, self.counters.counted)
        self._scheduler.ended = self._check.ended

    def _forget(self) -> None:
        """Drop the weights and what sequences remember: whoever still holds this engine must not hold them."""
        self._idle.end()
        self._check = None
        self._grammars.close()
        self._files.close()
        self.model = Unloaded(self.model.device, self.model.vocab, self.model.context, self.model.notes)
        self._scheduler, self._runner = Scheduler(self.model, self.context, 0), Runner(self.model)
        self._speculation = Speculation(counts=self._speculation.counts)
        self._guard.release()
        self._guard, self._files = MemoryGuard(self.model), FileGuard(self.model)
        self._kernels = KernelGuard(self.model)
        self._cache_bytes = self._prefix_bytes = self._paged_bytes = 0

    def _give_back(self) -> None:
        self.model.give_back()
        give_back_all()

    def _serve(self) -> None:
        while self._listen():
            if not self._files_are_well():
                continue
            self._awake.hold()
            self._guard.look(self._scheduler)
            self._step()
            if self._embeddings.step():
                self._idle.asked()
        self._awake.release()
        self._embeddings.fail(CLOSED)
        self._scheduler.close(CLOSED)

    def _step(self) -> None:
        """A function of its own, so that nothing of the last pass is held while we wait."""
        planned, computed_here = self._clock(), time.thread_time()
        plan: PassPlan | None = None
        try:
            self._scheduler.see()
            plan = self._scheduler.plan()
            if plan is None:
                return
            self._kernels.begin()
            began = self._clock()
            unsampled = self._runner.forward(plan)
            launched = self._clock()
            computed(plan.ready)
            done = self._clock()
            self._scheduler.ran(plan, began)
            if self._files_are_well():
                self._scheduler.commit(plan.ready)
                if unsampled is not None:
                    self._runner.sample(unsampled, self._scheduler.go_on(unsampled.rows))
                self._kernels.went_well(self._scheduler.retrying)
            self._count(plan, launched, done)
            host = time.thread_time() - computed_here
            self.counters.counted("host_seconds", host)
            self.counters.counted("wait_seconds", max(0.0, self._clock() - planned - host))
        except Exception as error:  # noqa: BLE001 one request ends, the thread lives on
            if not self._files_are_well():
                return
            if (lost := self.model.holdings.lost(error)) is not None:
                self.lose(lost)
                self._scheduler.refuse_all(lost)
            elif plan is None:
                self._scheduler.refuse_all(f"{type(error).__name__}: {error}")
            elif self._kernels.broke(error):
                self._scheduler.begin_anew(plan)
            else:
                self._scheduler.broke(plan, error)

    def _count(self, plan: PassPlan, launched: float, done: float) -> None:
        """How long the device had nothing to do, while somebody had work for it."""
        if plan.waits:  # nothing is under way until the next pass is launched
            self._idle_since = done
        elif self._idle_since is not None:
            self.counters.counted("bubble_seconds", launched - self._idle_since)
            self._idle_since = None

    def _files_are_well(self) -> bool:
        """Whether what was computed can be believed; if not, everybody is told so instead."""
        reason = self._files.fault()
        if reason is not None:
            self._scheduler.refuse_all(reason)
            self._embeddings.fail(reason)
        return reason is None

    @property
    def _busy(self) -> bool:
        return self._scheduler.busy or self._embeddings.busy

    def _listen(self) -> bool:
        """Take what was asked; where there is nothing to do, wait for it. False: closed."""
        self._measure()
        if not self._busy:
            self._awake.release()
        while not self._closing.is_set():
            if self._draining.is_set() and not self._busy and self._inbox.empty():
                self._closing.set()
                break
            checking = self._check is not None and self._check.busy
            try:
                block = not self._busy and not checking
                self._take(self._inbox.get(block=block, timeout=self._idle.patience))
            except queue.Empty:
                if self._busy:
                    return True
                if self._check is not None and self._check.busy:
                    self._check.step()
                else:
                    self._idle.go_on()
        while not self._inbox.empty():
            tell_closed(self._inbox.get())
        return False

    def _take(self, handles: tuple[Handle, ...]) -> None:
        if handles:
            self._scheduler.add(*handles)
            self._idle.asked()

    def _measure(self) -> None:
        now = time.perf_counter()
        if not self._scheduler.busy or now - self._measured > MEASURE_SECONDS:
            self._cache_bytes, self._prefix_bytes = self._scheduler.cache_bytes, self._scheduler.prefix_bytes
            self._paged_bytes = self.model.paged_bytes
            self._scheduler.stands()
            self._measured = now


def tell_closed(handles: tuple[Handle, ...]) -> None:
    for handle in handles:
        handle.post(Event(finish=Finish.CANCELLED, reason=CLOSED))


def weight_bytes(claim: Claim, cache: int) -> int:
    return max(0, claim.own + claim.mapped - cache)


def memory_of(engines: Iterable[Engine]) -> Memory:
    """Of all engines of this process: MLX counts their arrays together."""
    known = list(engines)
    cache = sum(one._cache_bytes for one in known)
    uncounted = sum(one._guard.mapped + one._paged_bytes for one in known)  # by MLX
    active, peak = mx.get_active_memory() + uncounted, mx.get_peak_memory() + uncounted
    return Memory(
        weights=min(max(0, active - cache), sum(weight_bytes(one.claim, one._cache_bytes) for one in known)),
        cache=cache,
        active=active,
        peak=peak,
        free=available_bytes(),
        total=total_bytes(),
        prefix_cache=sum(one._prefix_bytes for one in known),
        freed=mx.get_cache_memory(),
    )
