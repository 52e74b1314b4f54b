"""An NVIDIA card that is not here, as MLX's CUDA build would tell of it: put in the place of MLX's own answers.

The keys are those of mlx/backend/cuda/device_info.cpp; no card was asked. Arrays are still computed on the CPU.
"""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxrun.memory import darwin

from .macs import GIB, FakeMLX, Mac, become

H200 = {
    "device_name": "NVIDIA H200",
    "architecture": "sm_90",
    "compute_capability_major": 9,
    "compute_capability_minor": 0,
    "total_memory": 139 * GIB,
    "free_memory": 100 * GIB,
}


def insert_card(monkeypatch: pytest.MonkeyPatch, info: dict[str, object] = H200) -> FakeMLX:
    """MLX answers as on that card until the test ends; what it says may be changed meanwhile."""
    fake = become(monkeypatch, Mac(dict(info)))
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    monkeypatch.setattr(darwin, "system", lambda: None)
    return fake
