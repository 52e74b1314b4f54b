"""What is in use and why: all well, each thing wrong, for people and for programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.cpu_kernels.load import Status

from mlxrun import __version__, cli
from mlxrun.cli import doctor, serve
from mlxrun.ops import device, native
from mlxrun.ops.choose import Chooser
from mlxrun.weights import mapped
from tests.adopting import FakeMetal
from tests.macs import MACS, become

STATUS = Status(True, None, "avx512", True, 2, "0.32.4", "fast")


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A CPU with the native library, and nothing set but where models are."""
    for name in [name for name in os.environ if name.startswith("MLXRUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    computes_with(monkeypatch, native=True)
    monkeypatch.setattr(native, "status", lambda: STATUS)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.DeviceType.cpu, 0))


def computes_with(monkeypatch: pytest.MonkeyPatch, *, native: bool) -> None:
    """The device that this machine has."""
    found = device.Device(native=native, precision="fast", gpu=False, chooser=Chooser())
    monkeypatch.setattr(device, "this_device", lambda: found)


def told(capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert cli.main(["doctor"]) == code
    return capsys.readouterr().out


def numbers(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    assert cli.main(["doctor", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_all_is_well(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    lines = told(capsys, 0).splitlines()
    assert lines[0] == f"mlxrun {__version__}"
    assert lines[-1] == "All is well."
    assert not [line for line in lines if line.startswith("!")]
    kernels = next(line for line in lines if "native CPU kernels" in line)
    assert "avx512 with integer dot products, 2 threads, precision fast, self-test passed" in kernels
    found = numbers(capsys, 0)
    assert (found["mlxrun"], found["well"], found["problems"]) == (__version__, True, {})
    assert found["mlx"]["version"] == mx.__version__
    assert found["models"]["models"] == ["mine"]
    assert found["native_cpu_kernels"] == {
        "used": True,
        "available": True,
        "reason": None,
        "isa": "avx512",
        "integer": True,
        "threads": 2,
        "built_for_mlx": "0.32.4",
        "precision": "fast",
        "self_test": "passed",
    }
    memory = found["memory"]
    assert 0 < memory["usable"] <= memory["total"] <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "they were not built: no C++ compiler was found; install one and install mlxrun again"
    computes_with(monkeypatch, native=False)
    monkeypatch.setattr(native, "status", lambda: Status(False, reason))
    out = told(capsys, 1)
    assert "! native CPU kernels  not in use" in out
    assert out.endswith(f"! The native CPU kernels are not in use: {reason}.\n")
    found = numbers(capsys, 1)
    assert (found["well"], found["native_cpu_kernels"]["used"]) == (False, False)
    assert reason in found["problems"]["native CPU kernels"]


def test_a_gpu_needs_no_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    computes_with(monkeypatch, native=False)
    monkeypatch.setattr(native, "status", lambda: Status(False, "they were not built"))
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.DeviceType.gpu, 0))
    assert "not needed: the GPU does the work" in told(capsys, 0)


BROKEN = {
    # nothing of that name can be imported
    "missing": ("None", "they were not built"),
    # a library of another release, and one that computes nonsense
    "stale": ("types.SimpleNamespace(mlx_version='0.1')", "they were built for mlx 0.1"),
    "wrong": (
        "types.SimpleNamespace(mlx_version=mx.__version__, pack_quantized=lambda *a: None, "
        "matmul=lambda x, w: mx.zeros((3, 40)))",
        "they failed their self-test (off by",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_library_that_cannot_be_used_is_explained(how: str, tmp_path: Path) -> None:
    """In a process of its own, through the real search for the library."""
    library, reason = BROKEN[how]
    code = f"""
import sys, types, mlx.core as mx
sys.modules["mlxrun.cpu_kernels._native"] = {library}
mx.set_default_device(mx.cpu)
from mlxrun.cli import main
sys.exit(main(["doctor"]))
"""
    environ = {"MLXRUN_HOME": str(tmp_path), "HF_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"! The native CPU kernels are not in use: {reason}" in done.stdout


def test_mlx_that_does_not_load(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["mlx.core"] = None
from mlxrun.cli import main
sys.exit(main(["doctor", "--json"]))
"""
    environ = {"MLXRUN_HOME": str(tmp_path), "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found["device"] is None
    assert list(found["problems"]) == ["MLX"]


def test_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLXRUN_CONTEXT", "much")
    found = numbers(capsys, 1)
    assert list(found["problems"]) == ["models"]
    assert "MLXRUN_CONTEXT" in found["problems"]["models"]


@pytest.mark.skipif(native.native is None, reason="the native library alone knows these variables, and it is not here")
def test_a_variable_that_was_mistyped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLXRUN_CONTEX", "4096")
    assert cli.main(["doctor"]) == 1
    assert "MLXRUN_CONTEX is not a variable that mlxrun knows" in capsys.readouterr().out


def test_every_variable_that_is_read_is_known() -> None:
    sources = (Path(doctor.__file__).parents[1] / "settings.py", Path(serve.__file__), Path(doctor.__file__))
    read = {name for file in sources for name in re.findall(r'"MLXRUN_([A-Z]+)"', file.read_text())}
    assert "CONTEXT" in read
    assert read <= set(doctor.VARIABLES)


@pytest.mark.parametrize(("name", "known"), [("MLXRUN_PRECISION", "exact or fast"), ("MLXRUN_ISA", "base")])
def test_a_wish_that_is_not_granted(
    name: str, known: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "best")
    out = told(capsys, 1)
    assert f"! {name}=best is ignored: on this machine it can be " in out
    assert known in out


def test_secrets_stay_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLXRUN_KEY", "swordfish")
    monkeypatch.setenv("MLXRUN_THREADS", "3\x1b[2J")
    out = told(capsys, 1)  # of the threads
    assert "MLXRUN_KEY=(set)" in out
    assert "swordfish" not in out
    assert "\x1b" not in out


def test_a_store_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path / "deep" / "er"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert f"! {tmp_path} cannot be written; change its owner or set MLXRUN_HOME" in told(capsys, 1)


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    assert "! no-such-package cannot be found; install mlxrun again." in told(capsys, 1)


def test_a_narrow_terminal_wraps_beside_the_titles() -> None:
    found = {"one": doctor.Finding("word " * 30, None), "another": doctor.Finding("short", None, "Mend it.")}
    lines = doctor.screen(found, 60)
    assert max(map(len, lines)) <= 60
    assert lines[3].startswith(" " * 11 + "word")
    assert lines[-1] == "! Mend it."


def test_mapping_is_tried_and_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    metal = FakeMetal()
    monkeypatch.setattr(mapped, "adoption_here", lambda: metal.adoption)
    assert "mapped files        works, by MLX" in told(capsys, 0)
    assert numbers(capsys, 0)["mapped_files"] == {"works": True, "by": "MLX", "reason": None}
    assert len(metal.taken) == 2


def test_a_gpu_that_adopts_nothing_is_a_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, MACS["M3 Max 36 GB"])  # whose MLX is this machine's, which adopts nothing
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.DeviceType.gpu, 0))
    lines = told(capsys, 1).splitlines()
    assert any(line.startswith("! Weights are read and not mapped, because MLX takes no mapped") for line in lines)


@pytest.mark.parametrize(("limits", "most"), [("-Sn 64", 10240), ("-n 100", 100)])
def test_open_files_are_raised_as_far_as_may_be(limits: str, most: int) -> None:
    """In a shell of its own: what may be open is a process's."""
    command = f'ulimit {limits}; exec "{sys.executable}" -m mlxrun doctor --json'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    found = json.loads(done.stdout)
    hard = int(subprocess.run(["bash", "-c", "ulimit -Hn"], capture_output=True, text=True, check=True).stdout)
    assert found["open_files"] == {"most": min(most, hard)}
    assert ("open files" in found["problems"]) == (most == 100)
