"""Tuning that begins by itself: once for a model, in the time it has, and never where nobody wants it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
from scripted_device import ONCE, OURS, THEIRS, Device, device

from mlxrun.settings import SettingsError, from_environment
from mlxrun.tune import begin, picks
from mlxrun.tune.idle_tuner import SECONDS, Table, slices
from mlxrun.tune.measure import Bench

M4 = picks.TunedMachine("Apple M4", "macOS 26.1", "0.32.4")
TOOK = {"a 1": 0.001, "b 1": 0.003, "a 2": 0.002}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "kernels.json", M4)


def through(d: Device, table: Table, seconds: float = SECONDS, most: int = 10**6) -> int:
    """How many slices it took; those after `most` are not wanted any more."""
    going, count = slices(Bench(d.step, d.chooser, d.clock, seconds), table, ONCE), 0
    for count, _ in enumerate(going, 1):
        if count == most:
            going.close()
    return count


def test_it_finds_the_quicker_forms_uses_them_and_keeps_them(table: Table) -> None:
    d = device({key: took / 2 for key, took in TOOK.items()} | {"b 1": 1.0}, TOOK)
    through(d, table, seconds=1e9)
    assert table.known() == {"a 1": OURS, "b 1": THEIRS, "a 2": OURS}
    assert d.chooser.picks == {"a 1": "standard", "b 1": "mlx", "a 2": "standard"}


def test_it_begins_once(table: Table) -> None:
    d = device(TOOK, TOOK)
    through(d, table)
    steps = len(d.steps)
    assert through(d, table) == 1  # a look at what the step asks
    assert len(d.steps) == steps + 1


def test_what_there_was_no_time_for_is_left_to_people(table: Table) -> None:
    slow = {"a 1": 0.1, "b 1": 0.1, "a 2": 0.1}
    d = device({"a 1": 0.01, "b 1": 0.01, "a 2": 0.01}, slow)
    through(d, table)
    assert d.now < 5.0
    assert table.known() == {"a 1": OURS, "b 1": picks.Pick()}
    assert through(d, table) == 1


def test_a_model_too_slow_for_any_comparison_is_left_alone_afterwards(table: Table) -> None:
    d = device({"a 1": 1.5}, {"a 1": 1.5})
    through(d, table)
    assert d.now < 5.0
    assert table.known() == {"a 1": picks.Pick()}
    assert through(d, table) == 1


def test_what_was_found_before_it_ends_early_is_kept_and_the_rest_goes_on_next_time(table: Table) -> None:
    d = device({key: took / 2 for key, took in TOOK.items()}, TOOK)
    through(d, table, most=30)
    assert (table.known(), d.chooser.picks) == ({"a 1": OURS}, {"a 1": "standard"})
    through(d, table)
    assert table.known() == {"a 1": OURS, "b 1": OURS, "a 2": OURS}


def test_a_model_that_asks_for_no_kernel_is_looked_at_once(table: Table) -> None:
    assert through(device({}, {}), table) == 1
    assert not table.path.exists()


@pytest.mark.parametrize(
    ("environ", "device_type", "begins"),
    [
        ({}, mx.DeviceType.gpu, True),
        ({"MLXRUN_TUNE": "auto"}, mx.DeviceType.gpu, True),
        ({"MLXRUN_TUNE": "off"}, mx.DeviceType.gpu, False),
        ({"MLXRUN_KERNELS": "mlx"}, mx.DeviceType.gpu, False),
        ({"MLXRUN_KERNELS": "ours"}, mx.DeviceType.gpu, False),
        ({}, mx.DeviceType.cpu, False),
    ],
)
def test_where_it_begins(
    environ: dict[str, str],
    device_type: mx.DeviceType,
    begins: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(picks, "this_machine", lambda: M4)
    monkeypatch.setattr(mx, "default_device", lambda: SimpleNamespace(type=device_type))
    begun = begin(from_environment({"MLXRUN_HOME": str(tmp_path), **environ}))
    assert (begun.idle is not None) is begins
    assert begun.device.chooser.policy == environ.get("MLXRUN_KERNELS", "auto")


def test_a_machine_without_an_apple_gpu_has_nothing_to_begin(tmp_path: Path) -> None:
    if mx.metal.is_available():
        pytest.skip("There is an Apple GPU here.")
    assert begin(from_environment({"MLXRUN_HOME": str(tmp_path)})).idle is None


def test_the_environment_says_off_or_nothing() -> None:
    with pytest.raises(SettingsError, match="MLXRUN_TUNE must be auto or off, not 'no'"):
        from_environment({"MLXRUN_TUNE": "no"})
