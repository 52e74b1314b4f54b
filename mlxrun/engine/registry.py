"""Models by name: loaded when somebody asks, several at once, unloaded when nobody does.

Who asks gets a lease, and a model with a lease is never unloaded. Loads run one after the other on a thread of their
own, so that each is planned beside what is really there. Who asks for a model that is being loaded waits for that
load; one that fails is told to everybody who waits for it, and tried again for the next who asks. For one that does
not fit beside the others idle ones go, the longest unused first; where all others are in use it waits a while for one,
and is then refused. One with a fault answers nobody, so it goes whoever has it, and is loaded anew for the next who
asks. Knows not what a model is, how it is loaded, nor where.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Literal, Protocol, TypeVar

from ..loading.fit import DoesNotFit
from ..memory.claim import Claim, together
from ..spec import ModelError

GIB = 2**30
PATIENCE = 30.0  # seconds
CLOSED = "The models are being unloaded, and no more are loaded."
UNWANTED = "Nobody waits for this model any more."


class NoRoom(ModelError):
    """A model cannot be loaded beside those that are in use; later it may."""


class NotLoaded(ModelError):
    """A load was given up before it came to anything."""


class Loaded(Protocol):
    @property
    def claim(self) -> Claim: ...

    @property
    def fault(self) -> str | None:
        """Why it answers nobody any more, though it might if it were loaded anew."""

    def close(self) -> None: ...


M = TypeVar("M", bound=Loaded)


@dataclass(frozen=True)
class Beside:
    """What a load has to reckon with."""

    others: Claim  # of all models that are loaded
    last: bool  # none of them can be let go for it: less than it wants is better than nothing
    stopping: Callable[[], bool]  # whether nobody wants it any more; from any thread


Load = Callable[[str, Beside], M]
Keep = float | Literal["usual"] | None


@dataclass(frozen=True, slots=True)
class RegistryLimits:
    most: int | None = None  # models at once; None: as many as fit
    keep: float | None = None  # seconds that one stays after its last use; None: until its memory is wanted
    pinned: frozenset[str] = frozenset()  # stay whatever happens, unless a person says otherwise
    patience: float = PATIENCE  # that a load waits for models that are in use


@dataclass(frozen=True, slots=True)
class State(Generic[M]):
    """Of a model that is loaded, or on its way: as it is right now."""

    name: str
    model: M | None  # None: still being loaded
    users: int
    idle: float | None  # seconds since its last use; None: it is in use
    goes: float | None  # seconds until it goes by itself; None: it does not
    pinned: bool


@dataclass(eq=False)
class Slot(Generic[M]):
    name: str
    keep: float | None
    pinned: bool
    users: int = 0  # leases, and those who wait for one
    used: float = 0.0  # when the last one ended
    loading: Future[M] = field(default_factory=Future)

    @property
    def model(self) -> M | None:
        return self.loading.result() if self.loading.done() and self.loading.exception() is None else None


class Lease(Generic[M]):
    """While it is held the model stays. May be given back twice, and from any thread."""

    def __init__(self, model: M, give_back: Callable[[], None]) -> None:
        self.model = model
        self._once: list[Callable[[], None]] = [give_back]

    def release(self) -> None:
        try:
            give_back = self._once.pop()
        except IndexError:
            return
        give_back()

    def __enter__(self) -> M:
        return self.model

    def __exit__(self, *_: object) -> None:
        self.release()


class Registry(Generic[M]):
    def __init__(
        self, load: Load[M], limits: RegistryLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load, self._limits, self._clock = load, limits or RegistryLimits(), clock
        self._slots: dict[str, Slot[M]] = {}
        self._waiting: set[Future[Lease[M]]] = set()  # for a load; who takes one out answers it
        self._leaving: list[Slot[M]] = []  # to be closed; nobody can ask for them any more
        self._changed = threading.Condition()  # guards the slots; told of whatever may let somebody go on
        self._loader = ThreadPoolExecutor(1, "mlxrun-loader")
        self._sweeper: threading.Thread | None = None
        self._closed = threading.Event()

    def lease(self, name: str, keep: Keep = "usual") -> Future[Lease[M]]:
        """Comes when it is loaded, or raises what loading it raised; may be cancelled. Blocks nobody.

        `keep`: seconds that the model stays after this use; 0: it goes with it; None: until its memory is wanted."""
        with self._changed:
            if self._closed.is_set():
                raise NotLoaded(CLOSED)
            slot = self._slots.get(name)
            if slot is not None and slot.model is not None and slot.model.fault is not None:
                self._leave(slot)
                slot = None
            slot = slot or self._begin(name)
            slot.users += 1
            slot.keep = self._limits.keep if keep == "usual" else keep
            asked: Future[Lease[M]] = Future()
            self._waiting.add(asked)
        asked.add_done_callback(lambda done: self._let_go(slot) if done.cancelled() else None)
        slot.loading.add_done_callback(partial(self._hand_over, slot, asked))
        return asked

    def hold(self, name: str, model: M) -> None:
        """One that is loaded already."""
        slot: Slot[M] = Slot(name, self._limits.keep, name in self._limits.pinned, used=self._clock())
        slot.loading.set_result(model)
        with self._changed:
            self._slots[name] = slot
            self._watch(slot)

    def unload(self, name: str) -> bool:
        """As soon as nobody uses it; False: there is no such model here."""
        with self._changed:
            slot = self._slots.get(name)
            if slot is not None:
                slot.keep, slot.pinned = 0.0, False
                self._watch(slot)
            return slot is not None

    def states(self) -> list[State[M]]:
        with self._changed:
            now = self._clock()
            return [self._state(slot, now) for slot in self._slots.values()]

    def has(self, name: str) -> bool:
        return name in self._slots

    def stop(self) -> None:
        """No more loads, and one that is under way ends; who waits is told so. What is loaded stays."""
        self._closed.set()
        self._tell()
        with self._changed:
            waiting = list(self._waiting)
        for asked in waiting:
            self._answer(asked, NotLoaded(CLOSED))

    def close(self) -> None:
        """Unload everything, whoever uses it."""
        self.stop()
        self._loader.shutdown()
        if self._sweeper is not None:
            self._sweeper.join()
        self._leaving += self._slots.values()
        self._slots.clear()
        self._close_leaving()

    def _begin(self, name: str) -> Slot[M]:
        slot: Slot[M] = Slot(name, self._limits.keep, name in self._limits.pinned)
        self._slots[name] = slot
        slot.loading = self._loader.submit(self._bring, slot)
        slot.loading.add_done_callback(self._tell)
        self._watch(slot)
        return slot

    def _watch(self, slot: Slot[M]) -> None:
        """It may go by itself; a server of one model that stays has no thread for this."""
        if self._sweeper is None and not slot.pinned:
            self._sweeper = threading.Thread(target=self._sweep, name="mlxrun-idle", daemon=True)
            self._sweeper.start()
        self._changed.notify_all()

    def _tell(self, _: object = None) -> None:
        with self._changed:
            self._changed.notify_all()

    def _hand_over(self, slot: Slot[M], asked: Future[Lease[M]], loading: Future[M]) -> None:
        error = loading.exception()
        self._answer(asked, Lease(loading.result(), partial(self._let_go, slot)) if error is None else error)

    def _answer(self, asked: Future[Lease[M]], what: Lease[M] | BaseException) -> None:
        with self._changed:
            if asked not in self._waiting:
                return  # he was told
            self._waiting.remove(asked)
        if not asked.set_running_or_notify_cancel():
            return
        if isinstance(what, Lease):
            asked.set_result(what)
        else:
            asked.set_exception(what)

    def _let_go(self, slot: Slot[M]) -> None:
        with self._changed:
            slot.users -= 1
            slot.used = self._clock()
            self._changed.notify_all()

    def _state(self, slot: Slot[M], now: float) -> State[M]:
        idle = None if slot.users else now - slot.used
        goes = None if idle is None or slot.pinned or slot.keep is None else max(0.0, slot.keep - idle)
        return State(slot.name, slot.model, slot.users, idle, goes, slot.pinned)

    # on the loader's thread

    def _bring(self, slot: Slot[M]) -> M:
        model: M | None = None
        try:
            model = self._load_beside_others(slot)
            return model
        finally:
            with self._changed:
                slot.used = self._clock()
                if model is None:  # before anybody is told: who asks from now on begins anew
                    del self._slots[slot.name]

    def _load_beside_others(self, slot: Slot[M]) -> M:
        deadline = self._clock() + self._limits.patience
        while True:
            self._close_leaving()
            beside, full = self._beside(slot)
            refusal = f"No more than {self._limits.most} may be loaded at once."
            if not full:
                try:
                    return self._load(slot.name, beside)
                except DoesNotFit as error:
                    if not self._others(slot):
                        raise
                    refusal = str(error)
            if not self._make_room(slot, deadline):
                raise NoRoom(f"There is no room for {slot.name!r} beside {self._told(slot)}. {refusal}")

    def _beside(self, slot: Slot[M]) -> tuple[Beside, bool]:
        """And whether there are too many to load one more."""
        with self._changed:
            self._check_wanted(slot)
            others = self._others(slot)
            full = self._limits.most is not None and len(others) >= self._limits.most
            claim = together(model.claim for other in others if (model := other.model) is not None)
            return Beside(claim, self._idle_longest() is None, partial(self._unwanted, slot)), full

    def _unwanted(self, slot: Slot[M]) -> bool:
        return self._closed.is_set() or not slot.users

    def _check_wanted(self, slot: Slot[M]) -> None:
        if self._closed.is_set():
            raise NotLoaded(CLOSED)
        if not slot.users:
            raise NotLoaded(UNWANTED)

    def _others(self, slot: Slot[M]) -> list[Slot[M]]:
        return [other for other in self._slots.values() if other is not slot and other.model is not None]

    def _idle_longest(self) -> Slot[M] | None:
        idle = [slot for slot in self._slots.values() if not slot.users and not slot.pinned and slot.model is not None]
        return min(idle, key=lambda slot: slot.used, default=None)

    def _make_room(self, slot: Slot[M], deadline: float) -> bool:
        """Unload one that is idle, or wait until one is; False: nothing goes in time."""
        with self._changed:
            while (idle := self._idle_longest()) is None:
                self._check_wanted(slot)
                left = deadline - self._clock()
                if left <= 0 or not any(other.users for other in self._others(slot)):
                    return False
                self._changed.wait(left)
            self._leave(idle)
        return True

    def _leave(self, slot: Slot[M]) -> None:
        del self._slots[slot.name]
        self._leaving.append(slot)

    def _close_leaving(self) -> None:
        """Before the next load, which may need the room."""
        with self._changed:
            leaving, self._leaving = self._leaving, []
        for slot in leaving:
            if (model := slot.model) is not None:
                model.close()

    def _told(self, slot: Slot[M]) -> str:
        with self._changed:
            held = [(other, model.claim.total) for other in self._others(slot) if (model := other.model) is not None]
        return ", ".join(
            f"{other.name!r} ({size / GIB:.1f} GiB, {'in use' if other.users else 'pinned'})" for other, size in held
        )

    # on the sweeper's thread

    def _sweep(self) -> None:
        with self._changed:
            while not self._closed.is_set():
                self._changed.wait(self._unload_expired())

    def _unload_expired(self) -> float | None:
        """Seconds until the next one expires; None: none will, as things are."""
        now, soonest = self._clock(), None
        for slot in list(self._slots.values()):
            goes = None if slot.model is None else self._state(slot, now).goes
            if goes is None:
                continue
            if goes > 0:
                soonest = goes if soonest is None else min(soonest, goes)
            elif not self._closed.is_set():
                self._leave(slot)
                self._loader.submit(self._close_leaving)
        return soonest
