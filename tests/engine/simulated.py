"""A scheduler and its runner on a device that exists on paper: passes take as long as `cost` says, and nobody waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlxrun.core import Event, Request
from mlxrun.engine.admission import Claims
from mlxrun.engine.budget import Load
from mlxrun.engine.handle import Handle
from mlxrun.engine.plan import PassPlan
from mlxrun.engine.request import check
from mlxrun.engine.runner import Runner, computed
from mlxrun.engine.scheduler import Scheduler

from .fake import FakeModel

MS = 1e-3


def like_a_laptop(load: Load) -> float:
    """Seconds."""
    decode = (5.0 + 1.5 * load.speaking) * MS if load.speaking else 4.0 * MS
    return decode + load.prompt * (1.0 + load.depth / 4000) * MS


def like_two_cores(load: Load) -> float:
    """Seconds, after SmolLM2 on two cores: rows go in tiles of four, and deep ones cost far more than shallow ones."""
    rows = load.speaking + load.prompt
    products = (3.2 + 0.65 * rows + min(3.4 * ((rows - 1) // 4), 4 + 0.6 * rows)) * MS
    attention = load.depth / 4096 * (3.0 + 1.6 * load.prompt) * MS if load.prompt else 0.0
    return products + attention


class SmallRoom:
    """Memory for so many tokens of the fake model, all sequences together."""

    def __init__(self, tokens: int) -> None:
        self.tokens, self.bytes = tokens, 4 * tokens
        self.kept: Callable[[], int] = lambda: 0

    def room_for(self, tokens: int, rows: int, claims: Claims = ()) -> str | None:
        taken = sum(max(length, held // 4) for length, held in claims) + self.kept() // 4
        return None if taken + tokens <= self.tokens else "There is no memory for it."

    def never_room_for(self, tokens: int, rows: int) -> str | None:
        return None if tokens <= self.tokens else "There will never be memory for it."


class Simulated:
    def __init__(
        self,
        cost: Callable[[Load], float] = like_a_laptop,
        room: SmallRoom | None = None,
        model: FakeModel | None = None,
        **how: object,
    ) -> None:
        self.now, self.free_at, self.cost, self.room = 0.0, 0.0, cost, room
        self.model = model or FakeModel()
        self.scheduler = Scheduler(self.model, self.model.context, 1 << 20, room, clock=lambda: self.now, **how)
        if room is not None:
            room.kept = lambda: self.scheduler.prefix_bytes
        self.runner = Runner(self.model)
        self.plans: list[PassPlan] = []
        self.said: dict[Handle, list[tuple[float, Event]]] = {}

    def submit(self, prompt: Sequence[int], **how: object) -> Handle:
        return self.submit_choices(prompt, **how)[0]

    def submit_choices(self, prompt: Sequence[int], **how: object) -> list[Handle]:
        request = Request(tuple(prompt), **how)
        check(request, self.model.vocab, self.model.context)
        handles = [Handle(request, self.now) for _ in range(request.n)]
        self.said |= {handle: [] for handle in handles}
        self.scheduler.add(*handles)
        return handles

    def step(self) -> PassPlan | None:
        if self.room is not None and self.scheduler.cache_bytes > self.room.bytes:
            self.scheduler.forget(self.scheduler.cache_bytes - self.room.bytes)
            if self.scheduler.cache_bytes > self.room.bytes:
                self.scheduler.make_room("Memory is used up.")
        plan = self.scheduler.plan()
        if plan is not None:
            self.run(plan)
        for handle, said in self.said.items():
            said += [(self.now, event) for event in handle.ready()]
        return plan

    def run(self, plan: PassPlan) -> None:
        self.plans.append(plan)
        began, before = self.now, self.free_at
        unsampled, ready = self.runner.forward(plan), plan.ready
        if plan.load is not None:
            self.free_at = max(self.now, before) + self.cost(plan.load)
        self.now = max(self.now, self.free_at if plan.waits else before if ready else self.now)
        computed(ready)
        self.scheduler.ran(plan, began)
        self.scheduler.commit(ready)
        if unsampled is not None:
            self.runner.sample(unsampled, self.scheduler.go_on(unsampled.rows))

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

    def events(self, handle: Handle) -> list[Event]:
        return [event for _, event in self.said[handle]]

    def last(self, handle: Handle) -> Event:
        return self.said[handle][-1][1]

    def times(self, handle: Handle) -> list[float]:
        """When each token was told."""
        return [now for now, event in self.said[handle] if event.tokens]
