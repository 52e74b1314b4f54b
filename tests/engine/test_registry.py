"""Models by name, with loads that a test holds back, lets fail, or finds no room for; no model is real."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from mlxrun.engine.registry import Beside, Lease, NoRoom, NotLoaded, Registry, RegistryLimits
from mlxrun.loading.fit import DoesNotFit
from mlxrun.memory.claim import Claim
from mlxrun.spec import ModelError

SECONDS = 10.0  # for anything that is waited for


@dataclass(eq=False)
class Thing:
    name: str
    house: House
    size: int
    closed: bool = False
    fault: str | None = None

    @property
    def claim(self) -> Claim:
        return Claim(own=self.size)

    def close(self) -> None:
        assert not self.closed
        assert self.fault or not self.house.in_use.get(self.name), f"{self.name} was unloaded while somebody used it"
        self.closed = True
        self.house.open.remove(self)


@dataclass
class House:
    """Loads things of size 1 into so much room."""

    room: int = 100
    open: list[Thing] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)
    gates: dict[str, threading.Event] = field(default_factory=dict)  # a load waits for its own
    begun: dict[str, threading.Event] = field(default_factory=dict)
    in_use: dict[str, int] = field(default_factory=dict)
    deaf: bool = False  # a load does not notice that nobody wants it
    size: Callable[[str], int] = lambda name: 1
    loading: int = 0

    def load(self, name: str, beside: Beside) -> Thing:
        self.loads.append(name)
        self.loading += 1
        assert self.loading == 1, "two loads at once"
        assert beside.others.total == sum(thing.size for thing in self.open)
        try:
            if (begun := self.begun.get(name)) is not None:
                begun.set()
            if (gate := self.gates.get(name)) is not None:
                while not gate.wait(0.005):
                    if beside.stopping() and not self.deaf:
                        raise NotLoaded("It was stopped.")
            if (error := self.broken.get(name)) is not None:
                raise error
            if self.size(name) + beside.others.total > self.room:
                raise DoesNotFit(f"{name} needs {self.size(name)}.")
        finally:
            self.loading -= 1
        thing = Thing(name, self, self.size(name))
        self.open.append(thing)
        return thing


@contextmanager
def registry(house: House, clock: Callable[[], float] = time.monotonic, **limits: object) -> Iterator[Registry[Thing]]:
    own = Registry(house.load, RegistryLimits(**limits), clock)  # type: ignore[arg-type]  # limits are RegistryLimits' own fields
    try:
        yield own
    finally:
        house.in_use.clear()
        own.close()
        assert not house.open, "something is left loaded"


def got(asked: Future[Lease[Thing]]) -> Lease[Thing]:
    return asked.result(SECONDS)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def names(house: House) -> set[str]:
    return {thing.name for thing in house.open}


def test_a_load_under_way_is_waited_for_by_all_who_ask() -> None:
    house = House(gates={"a": threading.Event()})
    with registry(house) as own:
        asked = [own.lease("a") for _ in range(20)]
        assert not any(one.done() for one in asked)
        (state,) = own.states()
        assert (state.model, state.users, state.idle) == (None, 20, None)
        house.gates["a"].set()
        things = {got(one).model for one in asked}
        assert (len(things), house.loads) == (1, ["a"])


def test_a_load_that_fails_is_told_to_each_and_tried_again() -> None:
    house = House(gates={"a": threading.Event()}, broken={"a": ModelError("The file is broken.")})
    with registry(house) as own:
        asked = [own.lease("a") for _ in range(5)]
        house.gates["a"].set()
        for one in asked:
            with pytest.raises(ModelError, match="The file is broken"):
                got(one)
        assert own.states() == []
        house.broken.clear()
        got(own.lease("a")).release()
        assert house.loads == ["a", "a"]


def test_one_with_a_fault_goes_whoever_has_it_and_is_loaded_anew() -> None:
    house = House()
    with registry(house, pinned=frozenset({"a"})) as own:
        first = got(own.lease("a"))
        assert got(own.lease("a")).model is first.model
        first.model.fault = "Its file is gone."
        again = [got(own.lease("a")) for _ in range(3)]
        assert first.model.closed
        assert {lease.model for lease in again} == set(house.open)
        first.release()
        assert house.loads == ["a", "a"]
        assert [(state.users, state.pinned) for state in own.states()] == [(3, True)]


def test_what_is_not_an_error_of_ours_is_told_too() -> None:
    house = House(broken={"a": MemoryError("no bytes")})
    with registry(house) as own:
        with pytest.raises(MemoryError):
            got(own.lease("a"))
        got(own.lease("b"))


def test_the_longest_unused_goes_for_one_that_does_not_fit() -> None:
    now = [0.0]
    house = House(room=2)
    with registry(house, lambda: now[0]) as own:
        for name in ("a", "b", "a"):
            now[0] += 1
            got(own.lease(name)).release()
        got(own.lease("c")).release()
        assert names(house) == {"a", "c"}


def test_only_as_many_go_as_must() -> None:
    house = House(room=4, size=lambda name: 3 if name == "large" else 1)
    with registry(house) as own:
        for name in ("a", "b", "c", "large"):
            got(own.lease(name)).release()
        assert names(house) == {"c", "large"}


def test_one_that_is_in_use_never_goes() -> None:
    house = House(room=1)
    with registry(house, patience=0.0) as own:
        used = got(own.lease("a"))
        with pytest.raises(NoRoom) as refused:
            got(own.lease("b"))
        assert "no room for 'b' beside 'a' (0.0 GiB, in use). b needs 1." in str(refused.value)
        used.release()
        used.release()  # once is enough
        got(own.lease("b")).release()
        assert names(house) == {"b"}


def test_a_load_waits_for_one_that_is_in_use() -> None:
    house = House(room=1)
    with registry(house, patience=SECONDS) as own:
        used = got(own.lease("a"))
        asked = own.lease("b")
        until(lambda: house.loads == ["a", "b"])
        assert not asked.done()
        used.release()
        assert got(asked).model.name == "b"


def test_alone_it_is_refused_as_the_loader_says() -> None:
    house = House(room=0)
    with registry(house) as own, pytest.raises(DoesNotFit, match=r"^a needs 1\.$"):
        got(own.lease("a"))


def test_a_pinned_one_stays() -> None:
    house = House(room=1)
    with registry(house, pinned=frozenset({"a"}), keep=0.0) as own:
        got(own.lease("a")).release()
        with pytest.raises(NoRoom, match=r"'a' \(0\.0 GiB, pinned\)"):
            got(own.lease("b"))
        assert names(house) == {"a"}
        assert own.unload("a")  # a person says so
        until(lambda: not house.open)


def test_so_many_at_once_and_no_more() -> None:
    house = House()
    with registry(house, most=2, patience=0.0) as own:
        held = got(own.lease("a"))
        for name in ("b", "c"):
            got(own.lease(name)).release()
        assert names(house) == {"a", "c"}
        more = got(own.lease("c"))
        with pytest.raises(NoRoom, match="No more than 2 may be loaded at once"):
            got(own.lease("b"))
        held.release()
        more.release()


def test_they_go_after_a_while() -> None:
    now = [0.0]
    house = House()
    with registry(house, lambda: now[0], keep=60.0) as own:
        held, idle = got(own.lease("held")), got(own.lease("idle"))
        idle.release()
        now[0] = 59.0
        assert {state.name: state.goes for state in own.states()} == {"held": None, "idle": 1.0}
        now[0] = 61.0
        got(own.lease("other", keep=None)).release()  # it looks at the time when something happens
        until(lambda: names(house) == {"held", "other"})
        held.release()
        now[0] = 200.0
        own.unload("nobody")
        got(own.lease("third", keep=None))
        until(lambda: names(house) == {"other", "third"})


def test_by_the_clock_of_the_world_too() -> None:
    house = House()
    with registry(house, keep=0.02) as own:
        got(own.lease("a")).release()
        until(lambda: not house.open)
        assert own.states() == []


def test_it_goes_with_its_last_use_where_that_is_asked_for() -> None:
    house = House()
    with registry(house) as own:
        first, second = got(own.lease("a")), got(own.lease("a", keep=0.0))
        second.release()
        assert names(house) == {"a"}
        first.release()
        until(lambda: not house.open)


def test_unloading_waits_for_who_uses_it_and_who_asks_again_keeps_it() -> None:
    house = House()
    with registry(house) as own:
        held = got(own.lease("a"))
        assert own.unload("a")
        assert not own.unload("b")
        got(own.lease("a")).release()
        held.release()
        assert house.loads == ["a"]
        assert own.unload("a")
        until(lambda: not house.open)
        got(own.lease("a")).release()
        assert house.loads == ["a", "a"]


def test_who_leaves_before_it_is_there_uses_nothing() -> None:
    house = House(gates={"a": threading.Event()})
    with registry(house, keep=0.0) as own:
        stays, leaves = own.lease("a"), own.lease("a")
        assert leaves.cancel()
        house.gates["a"].set()
        got(stays).release()
        until(lambda: not house.open)


def test_a_load_that_nobody_waits_for_ends() -> None:
    house = House(gates={"a": threading.Event()}, begun={"a": threading.Event()})
    with registry(house) as own:
        asked, queued = own.lease("a"), own.lease("b")
        assert house.begun["a"].wait(SECONDS)
        queued.cancel()
        asked.cancel()
        until(lambda: own.states() == [])
        assert house.loads == ["a"]  # the other one never began


@pytest.mark.parametrize("waiting", ["load", "room"])
def test_closing_ends_what_is_under_way(waiting: str) -> None:
    house = House(room=1, gates={"b": threading.Event()} if waiting == "load" else {})
    own = Registry(house.load, RegistryLimits(patience=SECONDS))
    if waiting == "room":
        got(own.lease("a"))
    asked, queued = own.lease("b"), own.lease("c")
    until(lambda: "b" in house.loads)
    own.close()
    for one in (asked, queued):
        with pytest.raises(NotLoaded):
            got(one)
    assert not house.open
    with pytest.raises(NotLoaded):
        own.lease("a")


def test_stopping_tells_who_waits_though_the_load_does_not_end() -> None:
    house = House(gates={"a": threading.Event()}, deaf=True)
    with registry(house) as own:
        asked = [own.lease(name) for name in ("a", "a", "b")]
        until(lambda: house.loads == ["a"])
        own.stop()
        for one in asked:
            with pytest.raises(NotLoaded):
                one.result(0)
        house.gates["a"].set()


def test_many_ask_for_many_in_little_room() -> None:
    """Whoever has a lease has a model that is open; what fails is only for want of room, and nothing is left behind."""
    house = House(room=3, size=lambda name: 1 + int(name) % 2)
    served: list[str] = []

    def client(number: int, own: Registry[Thing]) -> None:
        pick = random.Random(number)
        for _ in range(40):
            name = str(pick.randrange(6))
            asked = own.lease(name, pick.choice(["usual", 0.0, None, 0.005]))  # type: ignore[arg-type]  # one of them
            if pick.random() < 0.1 and asked.cancel():
                continue
            with suppress(NoRoom):
                with asked.result(SECONDS) as thing:
                    with lock:
                        house.in_use[name] = house.in_use.get(name, 0) + 1
                    assert thing.name == name
                    assert not thing.closed
                    time.sleep(pick.random() * 0.002)
                    with lock:
                        house.in_use[name] -= 1
                    assert not thing.closed
                served.append(name)

    lock = threading.Lock()
    failed: list[BaseException] = []

    def safely(number: int) -> None:
        try:
            client(number, own)
        except BaseException as error:  # noqa: BLE001 the test raises it
            failed.append(error)

    with registry(house, keep=0.01, patience=5.0, most=2) as own:
        threads = [threading.Thread(target=safely, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert len(served) > 100
        assert sum(thing.size for thing in house.open) <= house.room
        for number in range(6):  # some were to stay
            own.unload(str(number))
        until(lambda: not house.open)
