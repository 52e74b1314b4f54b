"""What this machine has right now, and what this process takes of it.

A `Machine` is what a plan is made for: `here.this_machine()`, or one out of `profiles`. Linux was run; what a Mac
answers is read by `darwin` and was not. Knows nothing of models.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from .. import gpu
from . import darwin
from .mac_memory import mac_memory

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """All in bytes, and bytes a second."""

    name: str
    total: int
    usable: int  # for a model: the GPU's recommended working set; without a GPU what is free now
    gpu: bool
    card: bool = False  # which has a memory of its own
    cores: int | None = None
    bandwidth: float | None = None  # of the memory, as its maker says; None: unknown
    max_buffer: int | None = None  # the largest single array
    here: bool = False
    held: int = 0  # of what a GPU could have, what is wired or compressed now, by whomever

    @property
    def reserved(self) -> int:
        """Not for a model: the system's share, and here what others use."""
        return max(0, self.total - self.usable)


def available_bytes() -> int:
    """Memory that can be used without pushing anybody out: MemAvailable, bounded by the cgroup's limit; of a card that
    has its own, what is free there."""
    card = gpu.card()
    if card is not None:
        return card.free
    mac = mac_memory()
    if mac is not None:
        return mac.available
    limits = [_meminfo(), _cgroup_room()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else total_bytes()


def total_bytes() -> int:
    """Of the whole machine, or of the cgroup where that is less; of a card that has its own, that."""
    card = gpu.card()
    if card is not None:
        return card.total
    whole = darwin.sysctl_number("hw.memsize") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _cgroup_number("memory.max")
    return whole if limit is None else min(whole, limit)


def process_bytes() -> int | None:
    """What this process takes: phys_footprint on a Mac; on Linux PSS, shared pages counted by their share."""
    if darwin.system() is not None:
        return darwin.footprint_bytes()
    return _kilobytes(Path("/proc/self/smaps_rollup"), "Pss:") or _kilobytes(Path("/proc/self/status"), "VmRSS:")


def private_bytes() -> int | None:
    """This process's own: phys_footprint on a Mac, anonymous memory on Linux; mapped files do not count."""
    if darwin.system() is not None:
        return darwin.footprint_bytes()
    return _kilobytes(Path("/proc/self/status"), "RssAnon:")


def thread_count() -> int:
    """Of this process: those of the system on Linux, elsewhere those that Python knows."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _meminfo() -> int | None:
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable:")


def _kilobytes(file: Path, label: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(label):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_room() -> int | None:
    limit, used = _cgroup_number("memory.max"), _cgroup_number("memory.current")
    return None if limit is None or used is None else max(0, limit - used)


def _cgroup_number(file: str) -> int | None:
    try:
        text = (CGROUP / file).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
