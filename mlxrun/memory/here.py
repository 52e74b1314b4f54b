"""The machine that this runs on, as a plan wants it. Seen on Linux; a Mac's answers were read in MLX's source only."""

from __future__ import annotations

import os
from typing import Any

import mlx.core as mx

from . import darwin
from .machine import Machine, available_bytes, total_bytes
from .profiles import bandwidth_of


def this_machine() -> Machine:
    total, gpu = total_bytes(), mx.default_device().type == mx.DeviceType.gpu
    found = dict(mx.device_info())  # on Linux little more than the processor's name
    name = darwin.sysctl_text("machdep.cpu.brand_string") or str(found.get("device_name") or "this machine")
    working_set = _count(found, "max_recommended_working_set_size")  # follows iogpu.wired_limit_mb
    return Machine(
        name=name.strip(),
        total=total,
        usable=min(total, working_set) if gpu and working_set else min(total, available_bytes()),
        gpu=gpu,
        cores=os.cpu_count(),
        bandwidth=bandwidth_of(name, total) if gpu else None,
        max_buffer=_count(found, "max_buffer_length") if gpu else None,
        here=True,
    )


def _count(found: dict[str, Any], key: str) -> int | None:
    value = found.get(key)
    return int(value) if isinstance(value, int) and value > 0 else None
