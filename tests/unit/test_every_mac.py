"""Whoever asks the device, on every Mac that is not here: answers and single sentences, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxrun import cli, gpu
from mlxrun.engine.engine import Engine
from mlxrun.loading import LoadOptions, forms, load_model
from mlxrun.memory.here import this_machine
from mlxrun.memory.wiring import Wiring
from mlxrun.ops import device as devices
from mlxrun.ops.native import SLOW
from mlxrun.settings import from_environment
from mlxrun.spec import ModelError
from mlxrun.tune import begin, picks
from tests.macs import GIB, MACS, NO_DEVICE, FakeMLX, become
from tests.server.tiny import write_tiny
from tests.unit.test_floors import ROOT

SENTENCE = "mlxrun: MLX can compute nothing here, not even on the CPU"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), 64)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))


@pytest.fixture(params=[True, False], ids=["native", "no native kernels"])
def built(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the native CPU kernels were built."""
    if request.param and not devices.available:
        pytest.skip("The native CPU kernels are not here.")
    monkeypatch.setattr(devices, "available", request.param)
    return bool(request.param)


def test_doctor(mac: FakeMLX, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["device"]["kind"] == ("GPU" if mac.mac.usable else "CPU")
    assert found["device"]["name"] == mac.mac.chip
    assert found["memory"]["total"] == mac.mac.memory
    assert found["memory"]["pressure"] == "normal"
    assert ("device" in found["problems"]) is not mac.mac.usable
    assert found["device"]["mlx_says"] == gpu.info()
    cli.main(["doctor"])
    out = capsys.readouterr().out
    assert code == bool(found["problems"])
    # Linux's MLX adopts no mapped memory, whatever a Mac that stands in says; and the native library may be missing
    assert set(found["problems"]) - {"mapped files", "native CPU kernels"} == (set() if mac.mac.usable else {"device"})
    assert ("! device" in out) is not mac.mac.usable
    assert "pressure normal" in out


def problems(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands under doctor's table."""
    return "\n" + capsys.readouterr().out.rpartition("\n\n")[2]


def test_doctor_says_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    with monkeypatch.context() as patched:
        become(patched, MACS["no Metal device"])
        assert cli.main(["doctor"]) == 1
    last = problems(capsys)
    assert f"\n! {SENTENCE.removeprefix('mlxrun: ')} ({NO_DEVICE.split('. ')[0]}): start mlxrun where a" in last
    become(monkeypatch, MACS["the GPU does not answer"])
    assert cli.main(["doctor"]) == 1
    assert "\n! MLX finds no GPU that answers: odd: no answer.\n" in problems(capsys)


def test_the_machine(mac: FakeMLX) -> None:
    found = this_machine()
    assert (found.gpu, found.total, found.name) == (mac.mac.usable, mac.mac.memory, mac.mac.chip)
    assert 0 < found.usable <= found.total
    assert found.max_buffer == (gpu.count("max_buffer_length") if mac.mac.usable else None)
    assert (found.bandwidth is not None) is (mac.mac.usable and found.name.startswith("Apple M"))


def test_fit_and_show(mac: FakeMLX, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["fit", str(tiny), "--context", "64", "--json"], ["show", str(tiny), "--json"]):
        code = cli.main(command)
        out, err = capsys.readouterr()
        if code:
            assert not mac.mac.allocates
            assert (code, err.count("\n")) == (2, 1)
            assert err.startswith(SENTENCE)
        else:
            json.loads(out)


def test_run(
    mac: FakeMLX, built: bool, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull, encoding="utf-8"))  # noqa: SIM115 what is piped in is read
    code = cli.main(["run", str(tiny), "a", "--max-tokens", "2", "--context", "64"])
    err = capsys.readouterr().err
    if not mac.mac.allocates:
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(SENTENCE)
        return
    assert code == 0, err
    assert (SLOW in err) is (not mac.mac.usable and not built)


def test_serve(mac: FakeMLX, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxrun.server.run.serve", lambda *given: None)
    code = cli.main(["serve", str(tiny), "--port", "0", "--context", "64"])
    err = capsys.readouterr().err
    assert (code, SENTENCE in err) == ((0, False) if mac.mac.allocates else (2, True))


@pytest.mark.parametrize("name", [name for name, mac in MACS.items() if not mac.usable])
def test_tune(name: str, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On the others it compiles Metal texts, which Linux cannot."""
    become(monkeypatch, MACS[name])
    assert cli.main(["tune", str(tiny)]) == 0
    assert "no Apple GPU" in capsys.readouterr().out


def test_what_tuning_begins_with(mac: FakeMLX, built: bool) -> None:
    machine, begun = picks.this_machine(), begin(from_environment())
    assert (machine is not None) is (begun.idle is not None) is begun.device.gpu is mac.mac.usable
    assert begun.device.native is (built and not mac.mac.usable)
    if machine is not None:
        assert machine.chip == str(mac.mac.info.get("device_name", "unknown"))


def test_wiring(mac: FakeMLX) -> None:
    for policy in ("off", "weights", "max"):
        wired = Wiring(policy).wire(GIB)
        most = gpu.count("max_recommended_working_set_size") if mac.mac.usable else None
        assert wired.bytes == (None if most is None or policy == "off" else most if policy == "max" else GIB)
        assert (wired.bytes is None) is (wired.why_not is not None)
        assert wired.bytes in (mac.wired, None)


@pytest.mark.parametrize("name", ["M1 8 GB", "the GPU does not answer"])
def test_a_model_answers_where_there_is_no_native_library(name: str, tiny: Path) -> None:
    """In a process of its own, where it cannot be imported: as on every Mac that has not built it."""
    code = f"""
import sys
sys.modules["mlxrun.cpu_kernels._native"] = None
import pytest
from tests.macs import MACS, become
become(pytest.MonkeyPatch(), MACS[{name!r}])
from mlxrun import cli
sys.exit(cli.main(["run", sys.argv[1], "a", "--max-tokens", "4", "--context", "64"]))
"""
    command = [sys.executable, "-c", code, str(tiny)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (SLOW in done.stderr) is not MACS[name].usable


def test_the_cpu_stands_in_for_a_gpu_that_is_lost(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    """And what is loaded for it is what a CPU holds."""
    become(monkeypatch, MACS["the GPU does not answer"])
    wide: list[Any] = []
    monkeypatch.setattr(devices, "available", False)
    monkeypatch.setattr(forms, "widen_all", lambda weights: (wide.append(weights) or dict(weights), None))
    model = load_model(tiny, options=LoadOptions(64))
    assert wide
    assert any(SLOW in note for note in model.notes)


def test_an_engine_says_why_nothing_loads(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    become(monkeypatch, MACS["no Metal device"])
    with pytest.raises(ModelError, match="MLX can compute nothing here"):
        Engine.start(lambda: load_model(tiny))
