"""Choosing by measurement, with a scripted clock and a device that only adds to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from mlxrun.ops.choose import Chooser
from mlxrun.tune.measure import tune


@dataclass
class Device:
    """A step asks for its operations and takes what each form of them takes."""

    chooser: Chooser
    ours: dict[str, float]  # seconds by key
    theirs: dict[str, float]
    now: float = 0.0
    drift: float = 0.0  # every step takes so much longer than the one before
    broken: str = ""  # a key whose kernel the device refuses
    steps: list[int] = field(default_factory=list)

    def step(self, rows: int) -> None:
        self.steps.append(rows)
        for key in self.theirs:
            if not key.endswith(f" {rows}"):
                continue
            ours = self.chooser.ours(key)
            if ours and key == self.broken:
                raise RuntimeError("the compiler says no\nand more")
            self.now += (self.ours if ours else self.theirs)[key]
        self.now += self.drift * len(self.steps)

    def clock(self) -> float:
        return self.now


def device(ours: dict[str, float], theirs: dict[str, float], **how: object) -> Device:
    return Device(Chooser(), ours, theirs, **how)  # type: ignore[arg-type]  # the fields' own types


def picks(d: Device, **how: object) -> dict[str, bool]:
    timings = tune(d.step, d.chooser, clock=d.clock, rows=(1, 2), **how)  # type: ignore[arg-type]  # as above
    return {t.key: t.quicker for t in timings}


def test_the_quicker_form_is_picked_and_a_tie_stays_with_mlx() -> None:
    d = device({"a 1": 1.0, "b 1": 3.0, "c 1": 1.0, "a 2": 0.5}, {"a 1": 2.0, "b 1": 2.0, "c 1": 1.001, "a 2": 0.6})
    assert picks(d, seconds=1e9) == {"a 1": True, "b 1": False, "c 1": False, "a 2": True}


def test_a_machine_that_slows_down_favours_nobody() -> None:
    d = device({"a 1": 1.0}, {"a 1": 1.0}, drift=0.01)
    assert picks(d, seconds=1e9) == {"a 1": False}
    d = device({"a 1": 0.9}, {"a 1": 1.0}, drift=0.01)
    assert picks(d, seconds=1e9) == {"a 1": True}


def test_it_stops_when_the_time_is_up_and_the_rest_stays_with_mlx() -> None:
    slow = {f"{name} 1": 1.0 for name in "abcdef"}
    d = device(dict.fromkeys(slow, 0.5), slow)
    found = picks(d, seconds=100.0)
    assert 0 < len(found) < len(slow)
    assert d.now < 100.0 + 25 * 6.0  # at most one comparison past the end


def test_a_kernel_that_the_device_refuses_is_not_picked() -> None:
    d = device({"a 1": 0.1, "b 1": 0.1}, {"a 1": 1.0, "b 1": 1.0}, broken="a 1")
    assert picks(d, seconds=1e9) == {"a 1": False, "b 1": True}
    found = {t.key: t.failed for t in tune(d.step, d.chooser, clock=d.clock, rows=(1,), seconds=1e9)}
    assert found["a 1"].startswith("the compiler says no")


def test_what_is_known_is_not_measured_again() -> None:
    d = device({"a 1": 0.1, "b 1": 0.1}, {"a 1": 1.0, "b 1": 1.0})
    d.chooser.quicker = {"a 1": False}
    assert picks(d, seconds=1e9) == {"b 1": True}


@pytest.mark.parametrize("policy", ["auto", "mlx", "ours"])
def test_the_chooser_is_left_as_it_was(policy: str) -> None:
    d = device({"a 1": 0.1}, {"a 1": 1.0})
    d.chooser.policy = policy  # type: ignore[assignment]  # one of the three
    picks(d, seconds=1e9)
    assert (d.chooser.policy, d.chooser.quicker, d.chooser.asked) == (policy, {}, None)


def test_the_default_is_wall_clock_time_and_five_seconds() -> None:
    calls: list[int] = []
    step: Callable[[int], None] = calls.append
    assert tune(step, Chooser()) == []
    assert calls  # one look for each count of rows; nothing asks for a kernel
