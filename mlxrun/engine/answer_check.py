"""Answers computed once more, alone, while nobody asks: what an answer is may not depend on who else was there.

For who wants that held to, at the price of computing everything twice. What ended well is computed anew from its own
seed, without neighbours, drafts or anything kept, and compared token by token; what differs is counted. Where more ends
than there is time for, that is counted too. Knows no text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..core import Event, Finish, Request
from ..loading.model import Runnable
from ..ops.adapters import Adapter
from .constraint import Grammar
from .handle import Handle
from .idle_work import ran_well
from .request import Row
from .runner import Runner, computed
from .scheduler import Scheduler

MOST = 256  # answers that wait
BROKE = "What it was computed by broke."


@dataclass(frozen=True, slots=True)
class Ended:
    request: Request
    grammar: Grammar | None
    adapter: Adapter | None
    tokens: tuple[int, ...]  # prompt and answer


class AnswerCheck:
    def __init__(self, model: Runnable, context: int, counted: Callable[[str], None]) -> None:
        """`counted`: is told by name what came of each answer."""
        self._scheduler, self._runner, self._counted = Scheduler(model, context, 0), Runner(model), counted
        self._scheduler.ended = self._compare
        self._waiting: deque[Ended] = deque()
        self._now: Ended | None = None
        self.differed = 0

    @property
    def busy(self) -> bool:
        return self._now is not None or bool(self._waiting)

    def ended(self, row: Row, last: Event) -> None:
        if last.finish not in (Finish.STOP, Finish.LENGTH):
            return
        if len(self._waiting) == MOST:
            self._counted("answers_unchecked")
            return
        asked = row.handle.request
        alone = replace(asked, n=1, best_of=None, deadline=None, sampling=replace(asked.sampling, seed=row.seed))
        self._waiting.append(Ended(alone, row.handle.grammar, row.handle.adapter, tuple(row.tokens)))

    def step(self) -> None:
        """One pass. What breaks ends the check of this answer alone."""
        if not ran_well(self._pass):
            self._scheduler.close(BROKE)
        if not self._scheduler.busy and self._now is not None:
            self._now = None
            self._counted("answers_unchecked")

    def _pass(self) -> None:
        if self._now is None:
            self._now = self._waiting.popleft()
            handle = Handle(self._now.request)
            handle.grammar, handle.adapter = self._now.grammar, self._now.adapter
            self._scheduler.add(handle)
        self._scheduler.see()
        plan = self._scheduler.plan()
        if plan is None:
            return
        unsampled = self._runner.forward(plan)
        computed(plan.ready)
        self._scheduler.commit(plan.ready)
        if unsampled is not None:
            self._runner.sample(unsampled, self._scheduler.go_on(unsampled.rows))

    def _compare(self, row: Row, last: Event) -> None:
        if self._now is None or last.finish not in (Finish.STOP, Finish.LENGTH):
            return
        same, self._now = tuple(row.tokens) == self._now.tokens, None
        self._counted("answers_checked")
        if not same:
            self.differed += 1
            self._counted("answers_differed")
