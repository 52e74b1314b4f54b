"""Whether MLX computes on a GPU here, and what that GPU says of itself. Nobody else asks MLX for this.

No answer raises. Without a Metal device (a sandbox, some virtual machines) MLX's macOS build still names a GPU as its
default and raises when it is asked about it; the CPU is then made the default, so whoever asks here before the first
array computes there. Where even the memory for arrays comes from Metal, as in MLX 0.32 for macOS, the CPU computes
nothing either: `no_arrays` says so. Asked once a process. Never run on a Mac: read in MLX's sources and stubs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mlx.core as mx

# what nanobind may make of what MLX throws, and what a dictionary of odd shape raises
RAISED = (RuntimeError, ValueError, LookupError, MemoryError, OSError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class GpuAnswer:
    info: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CardMemory:
    """Of an NVIDIA card, in bytes: MLX's CUDA build tells it, never run by us."""

    total: int
    free: int  # for anybody


def info() -> dict[str, Any]:
    """What MLX says of the device that it computes on; empty where it says nothing."""
    usable()  # the default may have to change first
    return dict(_answer(_kind()).info)


def count(key: str) -> int | None:
    """A number above zero out of `info`."""
    value = info().get(key)
    return int(value) if isinstance(value, int) and value > 0 else None


def usable() -> bool:
    """MLX's default device is a GPU that answers."""
    if _kind() != mx.DeviceType.gpu:
        return False
    if _answer(mx.DeviceType.gpu).error is None:
        return True
    mx.set_default_device(mx.cpu)
    return False


def metal() -> bool:
    """It is usable, and Metal drives it."""
    return bool(mx.metal.is_available()) and usable()


def card() -> CardMemory | None:
    """As it is now; None: the GPU has no memory apart from the system's, or does not say."""
    if not usable() or metal():
        return None
    found = _ask(mx.DeviceType.gpu).info
    total, free = found.get("total_memory"), found.get("free_memory")
    if not isinstance(total, int) or not isinstance(free, int) or total <= 0:
        return None
    return CardMemory(total, max(0, min(free, total)))


def why_not() -> str | None:
    """Why no GPU computes here, in one sentence; None: one does."""
    if usable():
        return None
    if not mx.is_available(mx.gpu) and not mx.metal.is_available():
        return "MLX is installed without a GPU backend."
    error = _answer(mx.DeviceType.gpu).error
    return "MLX was told to compute on the CPU." if error is None else f"MLX finds no GPU that answers: {error}."


def lost() -> bool:
    """MLX is installed with a backend for a GPU, and none answers."""
    return not usable() and _answer(mx.DeviceType.gpu).error is not None


@cache
def no_arrays() -> str | None:
    """Why MLX can compute nothing at all here, in one sentence; None: it can."""
    try:
        mx.get_active_memory()  # asks whoever gives memory to arrays, and takes none
    except RAISED as error:
        return (
            f"MLX can compute nothing here, not even on the CPU ({_first_sentence(error)}): start mlxrun where a GPU "
            "can be seen, in a session at the screen and outside of any sandbox."
        )
    return None


def _kind() -> mx.DeviceType:
    return mx.default_device().type


@cache
def _answer(kind: mx.DeviceType) -> GpuAnswer:
    return _ask(kind)


def _ask(kind: mx.DeviceType) -> GpuAnswer:
    try:
        return GpuAnswer(dict(mx.device_info(kind)))
    except RAISED as error:
        return GpuAnswer(error=_first_sentence(error))


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")[:300]
