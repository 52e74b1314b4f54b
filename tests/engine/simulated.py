"""A scheduler and its runner on a device that exists on paper: passes take as long as `cost` says, and nobody waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlxrun.core import Event, Request
from mlxrun.engine.budget import Load
from mlxrun.engine.handle import Handle
from mlxrun.engine.plan import PassPlan
from mlxrun.engine.runner import Runner, computed
from mlxrun.engine.scheduler import Scheduler

from .fake import FakeModel

MS = 1e-3


def like_a_laptop(load: Load) -> float:
    """Seconds."""
    decode = (5.0 + 1.5 * load.speaking) * MS if load.speaking else 4.0 * MS
    return decode + load.prompt * (1.0 + load.depth / 4000) * MS


class Simulated:
    def __init__(self, cost: Callable[[Load], float] = like_a_laptop, **how: object) -> None:
        self.now, self.free_at, self.cost = 0.0, 0.0, cost
        self.model = FakeModel()
        self.scheduler = Scheduler(self.model, self.model.context, 1 << 20, clock=lambda: self.now, **how)
        self.runner = Runner(self.model)
        self.plans: list[PassPlan] = []
        self.said: dict[Handle, list[tuple[float, Event]]] = {}

    def submit(self, prompt: Sequence[int], **how: object) -> Handle:
        handle = Handle(Request(tuple(prompt), **how), self.now)
        self.said[handle] = []
        self.scheduler.add(handle)
        return handle

    def step(self) -> PassPlan | None:
        plan = self.scheduler.plan()
        if plan is not None:
            self.run(plan)
        for handle, said in self.said.items():
            said += [(self.now, event) for event in handle.ready()]
        return plan

    def run(self, plan: PassPlan) -> None:
        self.plans.append(plan)
        began, before = self.now, self.free_at
        ready = self.runner(plan)
        if plan.load is not None:
            self.free_at = max(self.now, before) + self.cost(plan.load)
        waited = plan.load is not None and not plan.samples
        self.now = max(self.now, self.free_at if waited else before if ready else self.now)
        computed(ready)
        self.scheduler.timed(plan, began)
        self.scheduler.commit(ready)

    def until(self, done: Callable[[], bool], steps: int = 20000) -> None:
        for _ in range(steps):
            if done():
                return
            self.step()
        raise AssertionError(f"not after {steps} passes")

    def finish(self) -> None:
        self.until(lambda: not self.scheduler.busy)

    def tokens(self, handle: Handle) -> list[int]:
        return [token for _, event in self.said[handle] for token in event.tokens]

    def last(self, handle: Handle) -> Event:
        return self.said[handle][-1][1]

    def times(self, handle: Handle) -> list[float]:
        """When each token was told."""
        return [now for now, event in self.said[handle] if event.tokens]
