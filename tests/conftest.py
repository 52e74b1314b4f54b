"""What every test may ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import settings

from tests.macs import MACS, FakeMLX, become

settings.register_profile("mlxrun", deadline=None)  # a busy machine is not a failure
settings.register_profile("thorough", deadline=None, max_examples=1000)  # by hand: --hypothesis-profile=thorough
settings.load_profile("mlxrun")

if device := os.environ.get("MLXRUN_TEST_DEVICE"):  # "cpu": on a Mac whose GPU is not to be asked
    mx.set_default_device(mx.Device(getattr(mx.DeviceType, device), 0))


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """A real model, SmolLM2-135M-Instruct: from the model store, which brings it once if it is not there."""
    given = os.environ.get("MLXRUN_TEST_GGUF")
    if given:
        return Path(given)
    from mlxrun.store import starter

    return starter.fetch()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """With 64 KiB on it."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux":
        pytest.skip("a small disk is a tmpfs of Linux")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture(params=MACS)
def mac(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeMLX:
    """A Mac in place of what MLX says of this machine: the test runs once for each."""
    return become(monkeypatch, MACS[request.param])
