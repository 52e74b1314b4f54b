"""What is left of a Mac's memory, by a system that is scripted."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.fit import DoesNotFit, plan_load
from mlxrun.loading.open import open_model
from mlxrun.memory import here, machine
from mlxrun.memory.headroom import Budget, Headroom, Pressure
from mlxrun.memory.mac_memory import LAG, WINDOW, SwapWatch, mac_memory
from tests.macs import GIB, MACS, PAGE, ScriptedSystem, become
from tests.unit.memory.outlines import LLAMA_32_3B, write

MIB = 2**20


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> ScriptedSystem:
    return become(monkeypatch, MACS["M4 Pro 24 GB"]).system


def test_what_is_free_and_what_files_hold_can_be_used(system: ScriptedSystem) -> None:
    system.pages = {"free": 1000, "speculative": 100, "external": 500, "purgeable": 7}
    assert machine.available_bytes() == (1000 - 100 + 500 + 7) * PAGE  # read ahead: of files, and counted there
    assert machine.total_bytes() == 24 * GIB


def test_the_total_is_believed_only_where_nothing_else_is_said(system: ScriptedSystem) -> None:
    system.pages = None
    assert machine.available_bytes() == 24 * GIB * 75 // 100
    del system.sysctls["kern.memorystatus_level"]
    assert machine.available_bytes() == 24 * GIB
    system.say("kern.memorystatus_vm_pressure_level", 4)
    assert machine.available_bytes() == 0


@pytest.mark.parametrize(
    ("pressure", "share", "told"), [(1, 1.0, "normal"), (2, 0.5, "warning"), (4, 0.0, "critical"), (0, 1.0, "normal")]
)
def test_the_kernels_pressure(pressure: int, share: float, told: str, system: ScriptedSystem) -> None:
    calm = machine.available_bytes()
    system.say("kern.memorystatus_vm_pressure_level", pressure)
    assert machine.available_bytes() == int(calm * share)
    assert (found := mac_memory()) is not None
    assert found.told == told


@pytest.mark.parametrize("level", [0, 3, 40, 100, 200])
def test_what_is_wired_or_compressed_nobody_gets(level: int, system: ScriptedSystem) -> None:
    calm = machine.available_bytes()
    system.say("kern.memorystatus_level", level)
    reclaimable = 24 * GIB * level // 100 if level <= 100 else 24 * GIB  # odd: not believed
    assert machine.available_bytes() == min(reclaimable, calm)
    assert here.this_machine().usable == min(16 * GIB, reclaimable)


@pytest.mark.parametrize("name", ["hw.memsize", "hw.pagesize", "vm.swapusage", "kern.memorystatus_vm_pressure_level"])
@pytest.mark.parametrize("raw", [b"", b"\1", b"\0" * 3])
def test_an_odd_answer_is_none(name: str, raw: bytes, system: ScriptedSystem) -> None:
    system.sysctls[name] = raw
    assert 0 < machine.available_bytes() <= machine.total_bytes()
    assert SwapWatch().grown() == 0


def test_every_mac_says_what_is_left_of_it(mac: object) -> None:
    assert 0 < machine.available_bytes() <= machine.total_bytes()
    assert 0 < here.this_machine().usable <= here.this_machine().total
    assert machine.private_bytes() == machine.process_bytes() == 200 * MIB


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_swap_that_grows_counts_for_a_while(system: ScriptedSystem) -> None:
    clock = Clock()
    system.swap(5 * GIB)
    watch = SwapWatch(clock=clock)
    assert watch.grown() == 0  # what was there before
    system.swap(6 * GIB)
    clock.now = WINDOW / 2
    assert watch.grown() == GIB
    clock.now = WINDOW + 1
    assert watch.grown() == 0
    system.swap(2 * GIB)
    assert watch.grown() == 0
    system.swap(3 * GIB)
    assert watch.grown() == GIB


def test_the_guard_ends_what_makes_the_system_swap(system: ScriptedSystem) -> None:
    budget = Budget(usable=10 * GIB, weights=GIB, activations=40 * MIB)
    clock = Clock()
    guard = Headroom(budget, swap=SwapWatch(clock=clock), clock=clock)
    assert guard.relieve(lambda wanted: None) is Pressure.NONE
    free = guard.free()
    system.swap(free)
    assert guard.free() == guard.room == 0
    assert guard.relieve(lambda wanted: None) is Pressure.REFUSE  # what was just given back is not told yet
    clock.now += LAG
    assert guard.relieve(lambda wanted: None) is Pressure.END
    assert guard.reason() == f"Memory is used up: the system has just moved {free / MIB:.0f} MiB to its swap files"
    guard.begin_anew()
    assert guard.relieve(lambda wanted: None) is Pressure.NONE
    system.swap(2 * free)
    assert guard.relieve(lambda wanted: None) is Pressure.REFUSE  # the next is not ended for the same
    clock.now += WINDOW + 1
    assert guard.over() <= 0
    system.swap(3 * free)
    assert guard.relieve(lambda wanted: None) is Pressure.REFUSE  # nor for what was short long ago


def test_the_guard_sees_the_kernels_pressure(system: ScriptedSystem) -> None:
    guard = Headroom(Budget(usable=10 * GIB, weights=GIB, activations=40 * MIB), lag=0.0)
    system.say("kern.memorystatus_vm_pressure_level", 4)
    assert guard.relieve(lambda wanted: None) is Pressure.END
    assert "other programs have left 0 MiB" in guard.reason()


def test_what_is_too_much_of_our_own_ends_at_once(system: ScriptedSystem) -> None:
    """Only the system's numbers are old."""
    system.taken = 20 * GIB
    guard = Headroom(Budget(usable=10 * GIB, weights=GIB, activations=40 * MIB), clock=Clock())
    assert guard.relieve(lambda wanted: None) is Pressure.END


def test_a_refusal_names_what_others_hold_and_no_limit_to_raise(system: ScriptedSystem, tmp_path: Path) -> None:
    place = write(tmp_path, LLAMA_32_3B, None)  # 6.0 GiB of weights in 16 bits
    opened = open_model(place)
    seen = dry_run(opened.checkpoint, opened.recipe, opened.device)
    assert plan_load(opened.recipe, seen, 512).made.fits
    system.say("kern.memorystatus_level", 20)
    with pytest.raises(DoesNotFit) as told:
        plan_load(opened.recipe, seen, 512)
    assert "end other programs (11.2 GiB that a model could have are in use)" in str(told.value)
    assert "iogpu.wired_limit_mb" not in str(told.value)
