"""Machines and Pythons on which mlxrun cannot run are told in one sentence. The Macs among them are made up."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlxrun import __main__, cli, supported

ROOT = Path(__file__).resolve().parents[2]
NEW = (3, 12, 1)


@pytest.mark.parametrize(
    ("system", "machine", "macos", "python"),
    [
        ("Linux", "x86_64", "", NEW),
        ("Linux", "aarch64", "", (3, 11, 0)),
        ("Darwin", "arm64", "14.0", NEW),
        ("Darwin", "arm64", "26.1", NEW),
        ("Darwin", "arm64", "10.16", NEW),
        ("Darwin", "arm64", "", NEW),
    ],
)
def test_what_is_supported(system: str, machine: str, macos: str, python: tuple[int, ...]) -> None:
    assert supported.why_not_on(system, machine, macos, python) is None


@pytest.mark.parametrize(
    ("system", "machine", "macos", "python", "translated", "told"),
    [
        ("Darwin", "arm64", "15.1", (3, 9, 6), False, ["3.11 or newer", "is 3.9.6", "brew install"]),
        ("Linux", "x86_64", "", (3, 10, 12), False, ["3.11 or newer", "is 3.10.12"]),
        ("Darwin", "x86_64", "15.1", NEW, True, ["Rosetta", "brew install"]),
        ("Darwin", "x86_64", "15.1", NEW, False, ["Intel processor", "Apple Silicon"]),
        ("Darwin", "arm64", "13.6.1", NEW, False, ["macOS 14", "13.6.1"]),
        ("Windows", "AMD64", "", NEW, False, ["not on Windows", "WSL"]),
    ],
)
def test_what_is_not(
    system: str, machine: str, macos: str, python: tuple[int, ...], translated: bool, told: list[str]
) -> None:
    why = supported.why_not_on(system, machine, macos, python, translated)
    assert why is not None
    assert all(part in why for part in told), why
    assert "\n" not in why
    assert why.endswith(".")


@pytest.mark.parametrize(("answer", "wanted"), [(b"1\n", True), (b"0\n", False), (b"", False)])
def test_rosetta_is_asked_for(answer: bytes, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supported.subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=answer))
    monkeypatch.setattr(supported.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(supported.platform, "machine", lambda: "x86_64")
    assert supported.is_translated() is wanted
    assert ("Rosetta" in str(supported.why_not())) is wanted


def test_a_machine_that_knows_no_sysctl_is_not_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert supported.is_translated() is False


def test_it_is_said_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supported, "why_not", lambda: "No.")
    monkeypatch.setitem(sys.modules, "mlxrun.cli", None)
    assert __main__.main() == 2
    assert capsys.readouterr() == ("", "mlxrun: No.\n")


@pytest.mark.parametrize("name", ["mlxrun/__init__.py", "mlxrun/__main__.py", "mlxrun/supported.py"])
def test_old_pythons_can_read_what_refuses_them(name: str) -> None:
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_it_runs_by_itself() -> None:
    command = [sys.executable, "-I", str(ROOT / "mlxrun" / "supported.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a plain `pip install mlxrun` leaves MLX on Linux: its Python files, and no libmlx.so."""
    found, bare = importlib.util.find_spec, SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: bare if name == "mlx" else found(name, *a))
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.parametrize("arguments", [["run", "smollm2", "hi"], ["serve"], ["list"], ["show", "smollm2"]])
def test_the_extra_that_is_missing_is_named(
    arguments: list[str], without_library: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "'mlxrun[cpu]'" in err
    assert "'mlxrun[cuda12]'" in err


def test_the_terminal_ui_says_it_too(
    without_library: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "terminal_can_be_filled", lambda: True)
    assert cli.main([]) == 2
    assert "'mlxrun[cpu]'" in capsys.readouterr().err


def test_doctor_tells_it_beside_all_else(without_library: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "Python" in out
    assert "'mlxrun[cpu]'" in " ".join(out.split())


def test_mlx_that_is_not_there_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert supported.why_no_mlx() == "MLX cannot be found; install mlxrun again."
    monkeypatch.setattr(sys, "platform", "linux")
    assert "'mlxrun[cpu]'" in str(supported.why_no_mlx())


def test_a_whole_mlx_is_seen() -> None:
    assert supported.why_no_mlx() is None
