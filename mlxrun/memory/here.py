"""The machine that this runs on, as a plan wants it. Seen on Linux; a Mac's answers were read in MLX's source only."""

from __future__ import annotations

import os

from .. import gpu
from . import darwin
from .mac_memory import mac_memory
from .machine import Machine, available_bytes, total_bytes
from .profiles import bandwidth_of


def this_machine() -> Machine:
    total, on_gpu = total_bytes(), gpu.usable()
    name = darwin.sysctl_text("machdep.cpu.brand_string") or str(gpu.info().get("device_name") or "this machine")
    working_set = gpu.count("max_recommended_working_set_size")  # follows iogpu.wired_limit_mb
    mac = mac_memory()
    # what is wired or compressed by others nobody gets, and the working set knows nothing of it
    left = total if mac is None or mac.reclaimable is None else mac.reclaimable
    return Machine(
        name=name.strip(),
        total=total,
        usable=min(total, working_set, left) if on_gpu and working_set else min(total, available_bytes()),
        held=max(0, min(total, working_set) - left) if on_gpu and working_set else 0,
        gpu=on_gpu,
        card=gpu.card() is not None,
        cores=os.cpu_count(),
        bandwidth=bandwidth_of(name, total) if on_gpu else None,
        max_buffer=gpu.count("max_buffer_length") if on_gpu else None,
        here=True,
    )
