"""Who goes through the model next, and what becomes of what came out. Computes nothing itself.

Requests start first come first served, as many as there is memory for. A pass holds one token of everybody who
speaks and, beside them, as many prompt tokens of the others as passes have been found to have time for: a long prompt
stalls neither those who speak nor short prompts behind it. Where memory runs out the youngest batch row, or else the
youngest of all, stops and goes on later. Knows no text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from ..core import Event, Finish, Refusal, RequestError
from ..loading.model import Runnable
from ..spec import ModelError
from .admission import Admission, Admitted, Endless, RoomLeft, claim, is_read_for
from .budget import Load, PassBudget, PassTimer
from .choices import rows_of
from .commit import commit, end_of
from .draft.speculation import NOTHING, Speculation
from .embedding import BROKEN
from .handle import Handle
from .pictures import Pictures
from .plan import PassPlan, plan_for
from .prefix_cache import PrefixCache
from .request import Row
from .sampler import Ahead
from .statistics import Counters
from .waiting import MOST, Waiting

AT_ONCE = 16  # rows that are admitted before a pass: those who speak wait meanwhile
LOOK_AGAIN = 0.05  # seconds after which it is seen once more whether there is memory for those who wait


class Scheduler:
    def __init__(
        self,
        model: Runnable,
        context: int,
        kept_bytes: int,
        room: RoomLeft | None = None,
        clock: Callable[[], float] = time.perf_counter,
        queue: int = MOST,
        speculation: Speculation | None = None,
    ) -> None:
        self._model, self._context, self._clock = model, context, clock
        shared = model.prefixes(context, kept_bytes) if kept_bytes else None
        self._prefixes = shared or PrefixCache(model, context, kept_bytes)
        self._admission = Admission(self._prefixes, room or Endless())
        self._budget = PassBudget()
        self._timer = PassTimer(self._learn)
        self._waiting = Waiting(queue)
        self._pictures = Pictures(model)
        self._running: list[Row] = []
        self._admit_at = 0.0
        self.counters = Counters()
        self._speculation = speculation or Speculation()
        self._speculation.counted = self.counters.counted
        self.ended: Callable[[Row, Event], None] = lambda row, last: None  # is shown each answer that ran and is over

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def retrying(self) -> bool:
        """Whether somebody runs alone, after a pass that broke."""
        return any(row.goal for row in self._running)

    @property
    def prefix_bytes(self) -> int:
        return self._prefixes.bytes

    @property
    def cache_bytes(self) -> int:
        held = self._prefixes.held([row.memory for row in self._running])
        return held + self._speculation.bytes(self._running) + self._pictures.bytes

    def add(self, *handles: Handle) -> None:
        """One for each answer to a request that `check` has let pass."""
        first, *unborn = rows_of(handles, self._context)
        try:
            self._admission.check(len(first.tokens))
        except RequestError as error:
            self._refuse([first, *unborn], str(error), error.refusal)
            return
        if self._waiting.has_room_for(1):
            first.unborn = unborn
            self._waiting.add(first)
            self._admit_at = 0.0
        else:
            reason = f"The queue is full: {self._waiting.most} requests are waiting already; try again later."
            wait = self._waiting.retry_after(1 + len(self._waiting) // 10)
            self._refuse([first, *unborn], reason, Refusal.QUEUE, wait)

    def plan(self) -> PassPlan | None:
        """The next pass; None: nobody wants one."""
        now = self._clock()
        self._end_what_is_over(now)
        if self._waiting and (now >= self._admit_at or not self._running):
            self._admit(now)
        for row in [row for row in self._running if row.unborn and row.unseen == 1]:
            self._bear(row, now)
        if not self._running:
            return None
        alone = [row for row in self._running if row.goal][:1]
        riding = NOTHING if alone else self._speculation.plan(self._running, self._budget.plain(len(self._running)))
        plan = plan_for(alone or self._running, self._budget, now, bool(alone), riding)
        for row in plan.members:
            row.still += 1
        for part in plan.parts:
            part.row.still, part.row.drafting.riding = 0, len(part.drafts)
        return plan

    def see(self) -> None:
        """Some more of the pictures that somebody waits for is encoded."""
        row = self._pictures.hand_out(self._running)
        if row is None:
            return
        try:
            self._pictures.step(row, any(other.speaks for other in self._running))
        except BROKEN as error:
            self._pictures.clear()
            self._end(row, Event(finish=Finish.FAILED, reason=f"Its picture broke: {type(error).__name__}: {error}"))
        self._pictures.hand_out(self._running)

    def ran(self, plan: PassPlan, began: float) -> None:
        """The pass was begun then, is on its way, and what it had ready has just been computed."""
        if plan.alone:
            self._timer.forget()
        else:
            self._timer.passed(plan.load, began, self._clock(), read=bool(plan.ready), waited=plan.waits)
        for part in plan.parts:
            if part.ids is not None:
                part.row.read_prompt(part.end)
        if self._prefixes.shares:
            for part in plan.parts:
                if part.ids is not None:
                    memory = part.row.memory
                    state = memory.length in memory.points
                    self._prefixes.share(part.row.keys, memory, part.row.scope, state=state)
        if plan.load is not None:
            self.counters.counted("passes")
            self.counters.counted("prompt_tokens", plan.load.prompt)

    def commit(self, ready: Iterable[tuple[Row, Ahead]]) -> None:
        """Read the tokens and say so; end the rows that end there, and stop those that must stop."""
        now = self._clock()
        for row, ahead in ready:
            last: Event | None = None
            for event in commit(row, ahead, now):
                self.counters.counted("output_tokens")
                if event.finish is not None:
                    last = event
                    break
                row.tell(event)
            if ahead.drafts and not row.settle():
                row.begin_anew(self._model.new_sequence(self._context))
            if last is not None:
                self._end(row, last)
        for row in [row for row in self._running if row.leaving and row.ahead is None]:
            self._stop(row)

    def go_on(self, rows: Iterable[Row]) -> list[Row]:
        """Of these, those who say another token. What an answer is constrained by may be complete, which ends it."""
        running = [row for row in rows if row in self._running]
        began, masks = self._clock(), 0
        for row in running:
            if row.guide is not None:
                masks += 1
                if (last := end_of(row.guide, row.sampling.min_tokens)) is not None:
                    self._end(row, last)
        if masks:
            self.counters.counted("masks", masks)
            self.counters.counted("mask_wait_seconds", self._clock() - began)
        return [row for row in running if row in self._running]

    def broke(self, plan: PassPlan, error: Exception) -> None:
        """The row that broke ends. Of several, or of drafts, any one may be it: each row begins anew by itself."""
        drafted = any(part.drafts for part in plan.parts)
        if plan.alone or (len(self._running) == 1 and not drafted):
            known = isinstance(error, ModelError | RequestError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            for row in plan.members:
                self._end(row, Event(finish=Finish.FAILED, reason=reason))
            self._prefixes.clear()
        else:
            self.begin_anew(plan)

    def begin_anew(self, plan: PassPlan) -> None:
        """Everybody, from the tokens that were read, and alone until where the pass that broke had brought him."""
        self._prefixes.clear()
        self._timer.forget()
        ends = {id(part.row): part.end for part in plan.parts}
        for row in self._running:
            row.goal = max(row.goal, ends.get(id(row), row.memory.length))
            row.begin_anew(self._model.new_sequence(self._context))

    def close(self, reason: str) -> None:
        for row in self._running[:]:
            self._end(row, Event(finish=Finish.CANCELLED))
        for row in self._waiting.take_all():
            for one in (row, *row.unborn):
                one.tell(Event(finish=Finish.CANCELLED, reason=reason))
        self._prefixes.close()

    def forget(self, wanted: int) -> None:
        """Of what ended requests left, at least so many bytes, or all of it."""
        self.counters.counted("prefix_bytes_dropped", min(wanted, self._prefixes.bytes))
        self._prefixes.shrink(wanted)
        self._speculation.forget()
        self._pictures.clear()
        self._model.give_back()

    def refuse_new(self, reason: str | None) -> None:
        """Why nothing new may begin; None: it may."""
        self._admission.full = reason

    def make_room(self, reason: str) -> None:
        """Memory is used up: somebody stops, to go on later; where only one is left he ends."""
        if self._stop_youngest(self._running) or not self._running:
            return
        if len(self._running) == 1:
            self._end(self._running[0], Event(finish=Finish.FAILED, reason=reason))

    def refuse_all(self, reason: str) -> None:
        """What the weights are views of is gone: nothing that was computed may be believed."""
        for row in self._running[:]:
            self._end(row, Event(finish=Finish.FAILED, reason=reason))
        for row in self._waiting.take_all():
            self._refuse([row, *row.unborn], reason, Refusal.BUSY)
        self._prefixes.clear()

    def stands(self) -> None:
        """For whoever asks how things stand."""
        speaking = sum(row.speaks for row in self._running)
        now: dict[str, float] = {
            "waiting": len(self._waiting),
            "reading": len(self._running) - speaking,
            "speaking": speaking,
            "queue_limit": self._waiting.most,
            **self._prefixes.told,
        }
        if (each := self._waiting.seconds_between_ends) is not None:
            now["seconds_between_ends"] = each
        self.counters.stands(now, self._budget.told)

    def _learn(self, load: Load, seconds: float) -> None:
        if load.drafts:
            self._speculation.took(load.speaking, load.drafts, seconds)
        else:
            self._budget.learn(load, seconds)

    def _refuse(self, rows: Iterable[Row], reason: str, refusal: Refusal, retry_after: float | None = None) -> None:
        for row in rows:
            self.counters.counted("refused")
            row.tell(Event(finish=Finish.REFUSED, reason=reason, refusal=refusal, retry_after=retry_after))

    def _end_what_is_over(self, now: float) -> None:
        for row in self._running[:]:
            if (event := row.over(now)) is not None:
                self._end(row, event)
        for row, event in self._waiting.over(now):
            self._waiting.remove(row)
            self._release(row)
            self._tell_end(row, event)

    def _admit(self, now: float) -> None:
        claims, most = [claim(row) for row in self._running], len(self._running) + AT_ONCE
        rate = self._budget.rate
        for row in self._waiting.in_order(now):
            if len(self._running) >= most:
                return
            if self._prefixes.shares and is_read_for(row, self._running):
                continue
            if not self._prefixes.ready(row.keys, row.scope, idle=not self._running, rate=rate):
                continue
            admitted = self._admission.admit(row, claims, self._waiting.retry_after, now)
            if admitted is Admitted.LATER:
                self._admit_at = now + LOOK_AGAIN
                if row.urgent(now):
                    self._stop_youngest([row for row in self._running if not row.urgent(now)], spare=False)
                return
            self._waiting.remove(row)
            if admitted is Admitted.YES:
                self.counters.counted("cached_tokens", row.memory.length)
                self._running.append(row)
                claims.append(claim(row))
            else:
                self.counters.counted("refused")
                self._release(row)

    def _bear(self, row: Row, now: float) -> None:
        """The prompt is read but for its last token: from there on the request's answers part."""
        unborn, row.unborn = row.unborn, []
        claims = [claim(one) for one in self._running]
        for other in unborn:
            memory = None
            if self._admission.shortage(other, claims) is None:
                memory = row.memory.fork()
            if memory is None:
                self._waiting.add_first(other)
            else:
                other.begin(memory, memory.length, now)
                self._running.append(other)
                claims.append(claim(other))
                self.counters.counted("forks")

    def _stop_youngest(self, rows: list[Row], spare: bool = True) -> bool:
        """Of the lowest class. `spare`: not the last one that runs."""
        staying = [row for row in rows if not row.leaving]
        if len(staying) <= spare:
            return len(staying) < len(rows)
        now = self._clock()
        lowest = [row for row in staying if not row.urgent(now)] or staying
        max(lowest, key=lambda row: (row.handle.submitted, row.choice)).leaving = True
        return True

    def _stop(self, row: Row) -> None:
        self._running.remove(row)
        self._speculation.ended(row)
        if row.memory.length:
            self._prefixes.keep(row.keys[:], row.memory, row.scope)
        row.stop()
        self._waiting.add_first(row)
        self._admit_at = 0.0
        self.counters.counted("preemptions")

    def _end(self, row: Row, last: Event) -> None:
        self._running.remove(row)
        self._speculation.ended(row)
        if last.finish is not Finish.FAILED:
            self._prefixes.keep(row.keys, row.memory, row.scope)
        self.ended(row, last)
        self._release(row)
        now = self._clock()
        self._waiting.ended(now)
        self._admit_at = 0.0
        self._tell_end(row, replace(last, usage=row.usage(now)))

    def _tell_end(self, row: Row, last: Event) -> None:
        self.counters.counted(f"ended_{last.finish}")
        row.tell(last)

    def _release(self, row: Row) -> None:
        """Its request's other answers go on without it."""
        for other in row.unborn:
            self._waiting.add_first(other)
        row.unborn = []
