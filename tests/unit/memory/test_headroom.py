"""When the guard does what: with measurements that are told, not taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlxrun import gpu
from mlxrun.memory import headroom as headrooms
from mlxrun.memory.headroom import FLOOR, Budget, Headroom, Pressure
from mlxrun.memory.wiring import POLICIES, Wiring
from tests.macs import FakeMLX, Mac, become

MIB = 2**20
BUDGET = Budget(usable=1000 * MIB, weights=600 * MIB, activations=40 * MIB)


class Process:
    """Takes so much, of which caches and kept sequences can go."""

    def __init__(self, taken: int, caches: int = 0, kept: int = 0, free: int = 10**12) -> None:
        self.taken, self.caches, self.kept, self.free = taken * MIB, caches * MIB, kept * MIB, free
        self.forgot: list[int] = []

    def clear(self) -> None:
        self.taken -= self.caches
        self.caches = 0

    def forget(self, wanted: int) -> None:
        self.forgot.append(wanted)
        gone = min(wanted, self.kept)
        self.taken, self.kept = self.taken - gone, self.kept - gone


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Process], Pressure]:
    def press(process: Process, budget: Budget = BUDGET, before: int = 0) -> Pressure:
        monkeypatch.setattr(headrooms, "give_back", process.clear)
        return Headroom(budget, before, lambda: process.taken, lambda: process.free).relieve(process.forget)

    return press


@pytest.mark.parametrize(
    ("process", "pressure"),
    [
        (Process(900), Pressure.NONE),
        (Process(1000), Pressure.NONE),
        (Process(1100, caches=100), Pressure.CACHES),
        (Process(1100, caches=60, kept=50), Pressure.KEPT),
        (Process(1100, kept=85), Pressure.REFUSE),  # less than half a pass too much
        (Process(1100, caches=10, kept=10), Pressure.END),
        (Process(900, free=FLOOR // 2), Pressure.END),  # others took it
    ],
)
def test_the_mildest_that_is_enough(process: Process, pressure: Pressure, pressed: Callable[..., Pressure]) -> None:
    assert pressed(process) is pressure


def test_kept_sequences_go_only_as_far_as_they_must(pressed: Callable[..., Pressure]) -> None:
    process = Process(1030, kept=500)
    pressed(process)
    assert process.forgot == [30 * MIB]


def test_nothing_is_dropped_while_there_is_room(pressed: Callable[..., Pressure]) -> None:
    process = Process(900, caches=100, kept=100)
    pressed(process)
    assert (process.caches, process.forgot) == (100 * MIB, [])


def test_mapped_weights_are_not_this_processes_own() -> None:
    mapped = Budget(usable=1000 * MIB, weights=600 * MIB, activations=0, mapped=600 * MIB)
    assert Headroom(mapped, before=50 * MIB).limit == 450 * MIB


def test_the_reason_says_whose_fault_it_is() -> None:
    ours = Headroom(BUDGET, 0, lambda: 2000 * MIB, lambda: 10**12).reason()
    theirs = Headroom(BUDGET, 0, lambda: 10 * MIB, lambda: 5 * MIB).reason()
    assert "2000 MiB of 1000 MiB" in ours
    assert "other programs have left 5 MiB" in theirs


class FakeMetal:
    def __init__(self) -> None:
        self.calls: list[int] = []
        self._limit = 7

    def set_wired_limit(self, limit: int) -> int:
        self.calls.append(limit)
        before, self._limit = self._limit, limit
        return before

    def synchronize(self) -> None:
        self.calls.append(-1)


@pytest.mark.parametrize(
    ("policy", "weights", "mapped", "wired", "said"),
    [
        ("weights", 600, 0, 600, None),
        ("weights", 600, 600, 600, None),
        ("weights", 990, 0, 900, "the weights take 990 bytes, and Metal recommends no more than 1000 in all"),
        ("own", 600, 500, 100, None),
        ("own", 600, 600, None, "all weights are pages of mapped files, which are left to the system"),
        ("max", 600, 0, 1000, None),
        ("off", 600, 0, None, "it is switched off"),
    ],
)
def test_what_is_wired(
    policy: str, weights: int, mapped: int, wired: int | None, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, Mac({"max_recommended_working_set_size": 1000}))
    metal = FakeMetal()
    wiring = Wiring(policy, metal)
    told = wiring.wire(weights, mapped)
    assert (told.bytes, told.why_not) == (wired, said)
    assert told.failed == (weights == 990)
    wiring.release()
    # read back by setting it again; and as it was before only after what ran
    assert metal.calls == ([] if wired is None else [wired, wired, -1, 7])


def test_two_models_are_wired_together(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, Mac({"max_recommended_working_set_size": 1000}))
    metal = FakeMetal()
    first, second, third = (Wiring("weights", metal) for _ in range(3))
    for wiring, weights in ((first, 300), (second, 400), (third, 500)):
        assert wiring.wire(weights).bytes == weights
    assert metal.calls[::2] == [300, 700, 900]  # no more than a share of what Metal recommends
    metal.calls.clear()
    for wiring in (second, first, third, third):
        wiring.release()
    assert metal.calls == [-1, 800, -1, 500, -1, 7]


def test_what_is_not_wired_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, Mac({"max_recommended_working_set_size": 1000}))
    old = FakeMetal()
    assert Wiring("weights", old, lambda: 14).wire(600).why_not == "it takes macOS 15 or later"
    assert old.calls == []  # MLX would take it and do nothing
    deaf = FakeMetal()
    monkeypatch.setattr(deaf, "set_wired_limit", lambda limit: 3)
    assert Wiring("weights", deaf).wire(600).why_not == "MLX was asked for 600 bytes and has 3"

    def refuse(limit: int) -> int:
        raise ValueError("[metal::set_wired_limit] too much\nmore")

    monkeypatch.setattr(deaf, "set_wired_limit", refuse)
    told = Wiring("weights", deaf).wire(600)
    assert (told.bytes, told.why_not) == (None, "MLX refused it: [metal::set_wired_limit] too much")
    assert told.failed
    become(monkeypatch, Mac({}))
    assert Wiring("weights", FakeMetal()).wire(600).why_not == "MLX does not say how much may be wired"


def test_no_mac_makes_wiring_raise(mac: FakeMLX) -> None:
    wiring = Wiring("weights")
    told = wiring.wire(10**9)
    assert (told.bytes is None) == (told.why_not is not None)
    wiring.release()
    assert mac.wired in (None, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_without_metal_nothing_is_ever_called(policy: str) -> None:
    absent = FakeMetal()
    wiring = Wiring(policy, absent)
    told = wiring.wire(600)
    wiring.release()
    assert absent.calls == []
    assert told.why_not == ("it is switched off" if policy == "off" else (gpu.why_not() or "").rstrip("."))


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(ValueError, match="not 'all'"):
        Wiring("all")
