"""Who goes through the model next, and what becomes of what came out. Computes nothing itself.

Requests start first come first served, as many as there is memory for. A pass holds one token of everybody who
speaks and, beside them, as many prompt tokens of the others as passes have been found to have time for: a long prompt
stalls neither those who speak nor short prompts behind it. Knows no text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from ..core import Event, Finish, Refusal, RequestError
from ..loading.model import Runnable
from ..spec import ModelError
from .admission import Admission, Admitted, RoomFor
from .budget import PassBudget, PassTimer
from .commit import commit
from .handle import Handle
from .plan import PassPlan, plan_for
from .prefix_cache import PrefixCache
from .request import Row, refuse
from .sampler import Ahead
from .waiting import Waiting


class Scheduler:
    def __init__(
        self,
        model: Runnable,
        context: int,
        kept_bytes: int,
        room_for: RoomFor = lambda tokens, rows, claims: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`room_for` (tokens, rows a pass, what others will hold): None, or why a prompt cannot begin now."""
        self._model, self._context = model, context
        self._prefixes = PrefixCache(model, context, kept_bytes)
        self._admission = Admission(model, context, self._prefixes, room_for)
        self._budget, self._clock = PassBudget(), clock
        self._timer = PassTimer(self._budget.learn)
        self._waiting = Waiting()
        self._running: list[Row] = []

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
        return self._prefixes.bytes + sum(row.memory.bytes for row in self._running)

    def add(self, handle: Handle) -> None:
        if self._waiting.full:
            reason = f"The queue is full: {self._waiting.most} requests are waiting already; try again later."
            refuse(handle, reason, Refusal.BUSY)
        else:
            self._waiting.add(Row.of(handle, self._context))

    def plan(self) -> PassPlan | None:
        """The next pass; None: nobody wants one."""
        for row in [row for row in self._running if row.handle.cancelled]:
            self._end(row, Event(finish=Finish.CANCELLED))
        self._waiting.end_cancelled()
        self._admit()
        if not self._running:
            return None
        alone = [row for row in self._running if row.goal][:1]
        plan = plan_for(alone or self._running, self._budget, self._clock(), bool(alone))
        for row in plan.members:
            row.still += 1
        for part in plan.parts:
            part.row.still = 0
        return plan

    def timed(self, plan: PassPlan, began: float) -> None:
        """The pass was begun then, and what it had ready has just been computed."""
        if plan.alone:
            self._timer.forget()
        else:
            waited = plan.load is not None and not plan.samples
            self._timer.passed(plan.load, began, self._clock(), read=bool(plan.ready), waited=waited)

    def commit(self, ready: Iterable[tuple[Row, Ahead]]) -> None:
        """Read the tokens and say so; end the rows that end there."""
        for row, ahead in ready:
            event = commit(row, ahead)
            if event.finish is None:
                row.handle.post(event)
            else:
                self._end(row, event)

    def broke(self, plan: PassPlan, error: Exception) -> None:
        """The row that broke ends. Of several any one may be it, so each begins anew by itself."""
        if plan.alone or len(self._running) == 1:
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
            row.handle.post(Event(finish=Finish.CANCELLED, reason=reason))

    def forget(self, wanted: int) -> None:
        """Of what ended requests left, at least so many bytes, or all of it."""
        self._prefixes.shrink(wanted)

    def refuse_new(self, reason: str | None) -> None:
        """Why nothing new may begin; None: it may."""
        self._admission.full = reason

    def end_youngest(self, reason: str) -> None:
        if self._running:
            self._end(self._running[-1], Event(finish=Finish.FAILED, reason=reason))

    def refuse_all(self, reason: str) -> None:
        """What the weights are views of is gone: nothing that was computed may be believed."""
        for row in self._running[:]:
            self._end(row, Event(finish=Finish.FAILED, reason=reason))
        for row in self._waiting.take_all():
            refuse(row.handle, reason, Refusal.BUSY)
        self._prefixes.clear()

    def _admit(self) -> None:
        while (row := self._waiting.first) is not None:
            admitted = self._admission.admit(row, self._running)
            if admitted is Admitted.LATER:
                return
            self._waiting.remove(row)
            if admitted is Admitted.YES:
                self._running.append(row)

    def _end(self, row: Row, last: Event) -> None:
        self._running.remove(row)
        if last.finish is not Finish.FAILED:
            self._prefixes.keep(row.tokens, row.memory)
        row.handle.post(replace(last, usage=row.usage))
