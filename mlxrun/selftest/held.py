"""What this process holds of the machine, and what is left when a model goes."""

from __future__ import annotations

import gc
import os
from dataclasses import asdict, dataclass

import mlx.core as mx

from ..memory.headroom import give_back
from ..memory.machine import private_bytes, thread_count
from ..ops.native import release

MIB = 2**20


@dataclass(frozen=True, slots=True)
class HeldNow:
    private: int  # bytes: phys_footprint on a Mac, anonymous memory on Linux
    arrays: int  # bytes that MLX counts
    descriptors: int
    threads: int

    def since(self, before: HeldNow) -> dict[str, int]:
        return {name: value - getattr(before, name) for name, value in asdict(self).items()}


def held() -> HeldNow:
    """Once all that nobody uses has been given back."""
    release()
    gc.collect()
    mx.synchronize()
    give_back()
    return HeldNow(private_bytes() or 0, mx.get_active_memory(), descriptors(), thread_count())


def descriptors() -> int:
    return len(os.listdir("/dev/fd")) - 1  # that of the listing itself
