"""Missing, stale, broken and wrong libraries: told in one sentence, and mlxrun works without."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
from mlxrun.cpu_kernels import native

from tests.macs import MACS, become

from .compiled import ROOT

load = importlib.import_module("mlxrun.cpu_kernels.load")  # the package has a function of that name
WITHOUT_LIBRARY = True  # these tests run where there is none too
LIBRARY = "_native" + sysconfig.get_config_var("EXT_SUFFIX")
REPORT = """
import warnings
import cpu_kernels
state = cpu_kernels.status()
print(state.available, "|", state.reason)
print(cpu_kernels.native is None, isinstance(1, cpu_kernels.Packed))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package without its library."""
    folder = tmp_path / "cpu_kernels"
    folder.mkdir()
    for name in ("__init__.py", "load.py", "sources.py"):
        shutil.copy(ROOT / "cpu_kernels" / name, folder)
    return folder


def imported(package: Path) -> tuple[bool, str]:
    """Whether it is in use, and the reason; nothing else may be printed."""
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-c", REPORT]
    done = subprocess.run(
        command, env=environment, cwd=package.parent, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    available, _, reason = first.partition(" | ")
    assert second == ("False False" if available == "True" else "True False")
    return available == "True", reason


@pytest.mark.parametrize("record", [{}, {"sources": "0" * 64}])
def test_the_sources_are_not_those_that_it_was_built_from(package: Path, record: dict[str, str]) -> None:
    (package / "src").mkdir()
    (package / "src" / "one.cpp").write_text("int one();")
    (package / "build.json").write_text(json.dumps({"built": True, "mlx": load.MLX, **record}))
    available, reason = imported(package)
    assert not available
    assert "other sources" in reason


def test_missing(package: Path) -> None:
    available, reason = imported(package)
    assert not available
    assert "not built" in reason
    assert "C++ compiler" in reason


def test_the_build_failed(package: Path) -> None:
    (package / "build.json").write_text(json.dumps({"built": False, "reason": "no C++ compiler was found"}))
    assert imported(package) == (False, "they were not built: no C++ compiler was found")


def test_a_failed_build_does_not_hide_a_library_that_stands(package: Path) -> None:
    if native is None:
        pytest.skip("There is no library to copy.")
    shutil.copy(native.__file__, package / LIBRARY)
    (package / "build.json").write_text(json.dumps({"built": False, "reason": "no C++ compiler was found"}))
    assert imported(package) == (True, "None")


def test_built_for_another_mlx(package: Path) -> None:
    (package / "build.json").write_text(json.dumps({"built": True, "mlx": "0.1.2"}))
    available, reason = imported(package)
    assert not available
    assert "built for mlx 0.1.2" in reason
    assert "install mlxrun again" in reason


@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF" + b"\0" * 60], ids=["empty", "text", "cut"])
def test_not_a_library(package: Path, content: bytes) -> None:
    (package / LIBRARY).write_bytes(content)
    available, reason = imported(package)
    assert not available
    assert "cannot be loaded" in reason


@pytest.mark.parametrize("record", ["", "[]", "{", '{"built": true}'])
def test_the_record_is_damaged(package: Path, record: str) -> None:
    """The library alone decides then."""
    (package / "build.json").write_text(record)
    available, reason = imported(package)
    assert not available
    assert "not built" in reason


def test_the_library_alone_is_enough(package: Path) -> None:
    if native is None:
        pytest.skip("There is no library to copy.")
    shutil.copy(native.__file__, package / LIBRARY)
    assert imported(package) == (True, "None")


class Fake(SimpleNamespace):
    """A library that packs, and multiplies as it was told."""

    def pack_quantized(self, *arrays: object) -> object:
        return arrays

    def matmul(self, x: mx.array, packed: tuple[mx.array, mx.array, mx.array]) -> mx.array:
        full = mx.dequantize(*packed[:3], group_size=32, bits=4)
        return self.change(x @ full.T)


def raising(error: Exception) -> object:
    def change(y: mx.array) -> mx.array:
        raise error

    return change


def test_a_right_library_passes() -> None:
    assert load.self_test(Fake(change=lambda y: y)) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda y: y + 1, "off by"),
        (lambda y: -y, "off by"),
        (lambda y: y * mx.nan, "off by"),
        (raising(TypeError("incompatible function arguments\nthe following")), "incompatible function arguments"),
        (raising(RuntimeError("no kernels")), "no kernels"),
    ],
)
def test_a_wrong_library_fails(change: object, told: str) -> None:
    reason = load.self_test(Fake(change=change))
    assert reason is not None
    assert "self-test" in reason
    assert told in reason
    assert "\n" not in reason


def test_where_mlx_computes_nothing_a_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """And importing it raises nothing: a Mac without a Metal device has no memory for arrays."""
    become(monkeypatch, MACS["no Metal device"])
    reason = load.self_test(Fake(change=lambda y: y))
    assert reason is not None
    assert reason.startswith("MLX computes nothing here to test them against ([metal::load_device] No Metal device")
    assert "\n" not in reason


def test_a_library_of_another_mlx_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "record", dict)
    monkeypatch.setattr(load.importlib, "import_module", lambda name: Fake(mlx_version="0.1.2", change=lambda y: y))
    assert load.load()[0] is None
    assert "built for mlx 0.1.2" in str(load.load()[1])


def test_mlxrun_works_without() -> None:
    """The plain path: the same layer, from MLX's own operations."""
    text = """
import sys
sys.modules["mlxrun.cpu_kernels._native"] = None
import mlx.core as mx
from mlxrun.cpu_kernels import status
from mlxrun.ops import matmul, norm, embedding, attention
from mlxrun.ops.device import this_device
from mlxrun.ops.quantized import QuantizedWeight
w = mx.sin(mx.arange(64 * 64, dtype=mx.float32)).reshape(64, 64)
quantized = QuantizedWeight(*mx.quantize(w, 32, 8), "affine", 8, 32)
device = this_device()
x = norm.rms_norm_on(device)(embedding.embed(mx.array([3, 5]), quantized), None, 1e-5)
y = matmul.matmul(x, quantized, device)
wanted = x @ quantized.dequantize().T
print(device.native, status().available, float(mx.abs(y - wanted).max()) < 1e-3)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["False", "False", "True"]
