"""What MLX reads once is decided before MLX is asked anything, by every entry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlxrun import command_buffers
from tests.macs import MACS, become
from tests.server.tiny import write_tiny
from tests.unit.test_floors import ROOT

# An M3 Ultra whose libSystem says nothing but its name, while this package is imported; then every function of MLX
# notes, when it is called, what MLX would read.
WATCHED = """
import ctypes, os, sys

NAME = b"Apple M3 Ultra\\0"

def sysctlbyname(label, found, size, new, length):
    if label != b"machdep.cpu.brand_string":
        return -1
    if found is None:
        size._obj.value = len(NAME)
    else:
        found.raw = NAME
    return 0

class Library:
    def __getattr__(self, name):
        return sysctlbyname if name == "sysctlbyname" else lambda *given: -1

library = Library()
library.mach_host_self = lambda: 7
before, ctypes.CDLL, sys.platform = (ctypes.CDLL, sys.platform), lambda *given, **more: library, "darwin"
import mlxrun
ctypes.CDLL, sys.platform = before

import mlx.core as mx
seen = []

def watched(name, call):
    def asked(*given, **more):
        seen.append((name, os.environ.get("MLX_MAX_OPS_PER_BUFFER"), os.environ.get("MLX_MAX_MB_PER_BUFFER")))
        return call(*given, **more)
    return asked

for name, call in list(vars(mx).items()):
    if callable(call) and not isinstance(call, type):
        setattr(mx, name, watched(name, call))
"""
ENTRIES = {
    "run": "from mlxrun import cli; cli.main(['run', sys.argv[1], 'a', '--max-tokens', '1', '--context', '64'])",
    "serve": (
        "from mlxrun import cli; import mlxrun.server.run as run; run.serve = lambda *given: None\n"
        "cli.main(['serve', sys.argv[1], '--port', '0', '--context', '64'])"
    ),
    "doctor": "from mlxrun import cli; cli.main(['doctor'])",
    "notebook": "mlxrun.load(sys.argv[1], context=64).close()",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_it_is_decided_before_mlx_is_asked_anything(entry: str, tmp_path: Path) -> None:
    code = f"{WATCHED}\n{ENTRIES[entry]}\nprint(*seen[0], len(seen))"
    environ = {"PATH": "/usr/bin:/bin", "MLXRUN_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", code, str(write_tiny(tmp_path / "tiny", 64))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    name, *read, asked = done.stdout.splitlines()[-1].split()
    assert read == list(command_buffers.LARGE.values()), f"mx.{name} was called first"
    assert int(asked) > 3


def test_importing_the_package_imports_no_mlx() -> None:
    code = "import sys, mlxrun; print([name for name in ('mlx', 'ctypes', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n" or sys.platform == "darwin"


def test_only_an_ultra_gets_large_command_buffers_and_a_person_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for chip in ("Apple M4", "Apple M5 Max", "unknown"):
        assert command_buffers.limits(chip) == {}
    system = become(monkeypatch, MACS["M5 Max 128 GB"]).system
    environ = {"MLX_MAX_OPS_PER_BUFFER": "7"}
    command_buffers.decide(environ)
    assert environ == {"MLX_MAX_OPS_PER_BUFFER": "7"}
    system.sysctls["machdep.cpu.brand_string"] = b"Apple M3 Ultra\0"
    command_buffers.decide(environ)
    assert environ == {"MLX_MAX_OPS_PER_BUFFER": "7", "MLX_MAX_MB_PER_BUFFER": "400"}


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac names its chip")
def test_elsewhere_nothing_is_set() -> None:
    environ: dict[str, str] = {}
    command_buffers.decide(environ)
    assert environ == {}
