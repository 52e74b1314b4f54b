"""Choosing by measurement, with a scripted clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scripted_device import ONCE, OURS, THEIRS, Device, device

from mlxrun.ops.choose import Chooser
from mlxrun.tune.measure import Bench, Order, Timing, tune, tuning
from mlxrun.tune.picks import Pick


def timings(d: Device, seconds: float = 1e9) -> list[Timing]:
    return tune(Bench(d.step, d.chooser, d.clock, seconds), {}, ONCE)


def picks(d: Device, seconds: float = 1e9) -> dict[str, Pick]:
    return {t.key: t.pick for t in timings(d, seconds)}


def test_the_quicker_form_is_picked_and_a_tie_stays_with_mlx() -> None:
    d = device({"a 1": 1.0, "b 1": 3.0, "c 1": 1.0, "a 2": 0.5}, {"a 1": 2.0, "b 1": 2.0, "c 1": 1.001, "a 2": 0.6})
    assert picks(d) == {"a 1": OURS, "b 1": THEIRS, "c 1": THEIRS, "a 2": OURS}


def test_a_machine_that_slows_down_favours_nobody() -> None:
    d = device({"a 1": 1.0}, {"a 1": 1.0}, drift=0.01)
    assert picks(d) == {"a 1": THEIRS}
    d = device({"a 1": 0.9}, {"a 1": 1.0}, drift=0.01)
    assert picks(d) == {"a 1": OURS}


def test_it_stops_when_the_time_is_up_and_the_rest_stays_with_mlx() -> None:
    slow = {f"{name} 1": 1.0 for name in "abcdef"}
    d = device(dict.fromkeys(slow, 0.5), slow)
    found = picks(d, seconds=200.0)
    assert 0 < len(found) < len(slow)
    assert d.now < 200.0


def test_a_kernel_that_the_device_refuses_is_not_picked() -> None:
    d = device({"a 1": 0.1, "b 1": 0.1}, {"a 1": 1.0, "b 1": 1.0}, broken="a 1")
    assert picks(d) == {"a 1": THEIRS, "b 1": OURS}
    found = {t.key: t.failed for t in timings(d)}
    assert found["a 1"].startswith("the compiler says no")


def test_a_kernel_that_a_step_went_on_without_is_not_picked() -> None:
    d = device({"a 1": 0.1, "b 1": 0.1}, {"a 1": 1.0, "b 1": 1.0})
    step = d.step

    def refuses(rows: int) -> None:
        step(rows)
        if d.chooser.ours("a 1") is not None:
            d.chooser.refuse("a 1", "standard", "too many threads")

    d.step = refuses  # type: ignore[method-assign]  # a device that says no in the middle of it
    found = {t.key: t for t in timings(d)}
    assert (found["a 1"].pick, found["a 1"].failed) == (THEIRS, "too many threads")
    assert (found["b 1"].pick, found["b 1"].failed) == (OURS, "")


def test_what_is_known_is_not_measured_again() -> None:
    d = device({"a 1": 0.1, "b 1": 0.1}, {"a 1": 1.0, "b 1": 1.0})
    found = tune(Bench(d.step, d.chooser, d.clock, 1e9), {"a 1": THEIRS}, ONCE)
    assert {t.key: t.pick for t in found} == {"b 1": OURS}


def test_other_cuts_are_tried_after_the_standard_one_has_been_everywhere() -> None:
    ours = {"a 1": 0.9, "a 1 wide": 0.5, "a 1 bits": 0.4999, "b 1": 1.0, "b 1 bits": 0.7, "a 2": 3.0}
    d = device(ours, {"a 1": 1.0, "b 1": 1.0, "a 2": 1.0})
    found = tune(Bench(d.step, d.chooser, d.clock, 1e9), {}, Order(rows=(1, 2)))
    assert [(t.cut, t.key, t.pick.form) for t in found] == [
        *(("standard", "a 1", "standard"), ("standard", "b 1", "mlx"), ("standard", "a 2", "mlx")),
        *(("wide", "a 1", "wide"), ("wide", "b 1", "mlx"), ("wide", "a 2", "mlx")),
        *(("bits", "a 1", "wide"), ("bits", "b 1", "bits"), ("bits", "a 2", "mlx")),  # a tie stays with what was
    ]
    assert {t.pick.tried for t in found[-3:]} == {("standard", "wide", "bits")}


def test_cuts_that_there_was_no_time_for_are_tried_the_next_time() -> None:
    d = device({"a 1": 0.5, "a 1 wide": 0.4}, {"a 1": 1.0})
    found = tune(Bench(d.step, d.chooser, d.clock, 1e9), {"a 1": OURS}, Order(rows=(1,)))
    assert [(t.cut, t.pick.form) for t in found] == [("wide", "wide"), ("bits", "wide")]


@pytest.mark.parametrize("policy", ["auto", "mlx", "ours"])
def test_the_chooser_is_left_as_it_was(policy: str) -> None:
    d = device({"a 1": 0.1}, {"a 1": 1.0})
    d.chooser.policy = policy  # type: ignore[assignment]  # one of the three
    picks(d)
    assert (d.chooser.policy, d.chooser.picks, d.chooser.asked) == (policy, {}, None)


def test_the_default_is_wall_clock_time_and_five_seconds() -> None:
    calls: list[int] = []
    step: Callable[[int], None] = calls.append
    bench = Bench(step, Chooser())
    assert (bench.seconds, tune(bench, {})) == (5.0, [])
    assert calls  # one look for each count of rows; nothing asks for a kernel


def test_steps_of_more_rows_are_expected_to_take_as_long_as_the_longest() -> None:
    d = device({"a 1": 1.0, "a 2": 1.0}, {"a 1": 1.0, "a 2": 1.0})
    bench = Bench(d.step, d.chooser, d.clock, seconds=25.0)  # 22 steps between two looks, and one more ends too late
    assert [t.key for t in tune(bench, {}, ONCE)] == ["a 1"]
    assert (d.now, bench.spent, d.steps) == (24.0, 24.0, [1] * 24)


def test_between_two_steps_the_chooser_is_as_it_was() -> None:
    d = device({"a 1": 1.0}, {"a 1": 1.0})
    for _ in tuning(Bench(d.step, d.chooser, d.clock, 1e9), {}, Order(("standard",), (1,))):
        assert (d.chooser.policy, d.chooser.picks, d.chooser.asked) == ("auto", {}, None)
    assert len(d.steps) == 24


def test_what_is_asked_for_only_where_another_was_picked_is_measured_too() -> None:
    d = device({"a 1": 0.1}, {"a 1": 2.0})

    def step(rows: int) -> None:
        d.step(rows)
        if d.chooser.picks.get("a 1") == "standard":
            d.now += 0.5 if d.chooser.ours("b 1") else 1.0

    found = tune(Bench(step, d.chooser, d.clock, 1e9), {}, Order(("standard",), (1,)))
    assert {t.key: t.pick for t in found} == {"a 1": OURS, "b 1": OURS}
