"""Macs that are not here, as MLX would tell of them: put in the place of MLX's own answers, for one test.

`become(monkeypatch, MACS["M1 8 GB"])`, or the fixture `mac`, under which a test runs once for each. Arrays are still
computed by Linux's MLX on the CPU: what is pretended is only what MLX and macOS say. The keys are those of MLX's Metal
build (mlx/backend/metal/device_info.cpp), the values what owners have published; none was read on a Mac by us.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mlx.core as mx
import pytest

from mlxrun import gpu
from mlxrun.memory import darwin

GIB = 2**30
PAGE = 16384
# MLX 0.32, mlx/backend/metal/device.cpp
NO_DEVICE = (
    "[metal::load_device] No Metal device available. This typically occurs in headless, sandboxed, or virtualized "
    "macOS sessions where the GPU is not accessible."
)


@dataclass(frozen=True)
class Mac:
    info: Mapping[str, Any] = field(default_factory=dict)  # device_info of its GPU
    error: str | None = None  # instead: what MLX raises when it is asked about its GPU
    allocates: bool = True  # MLX's macOS build takes all memory from Metal, also what the CPU computes with
    memory: int = 16 * GIB
    chip: str = "Apple M2"  # as sysctl names it

    @property
    def usable(self) -> bool:
        return self.error is None


def mac(chip: str, architecture: str, memory: int, working_set: int, max_buffer: int) -> Mac:
    info = {
        "device_name": chip,
        "architecture": architecture,
        "memory_size": memory * GIB,
        "max_buffer_length": max_buffer,
        "max_recommended_working_set_size": working_set,
        "resource_limit": 499000,
    }
    return Mac(info, memory=memory * GIB, chip=chip)


MACS = {
    "M1 8 GB": mac("Apple M1", "applegpu_g13g", 8, 5726623744, 4 * GIB),
    "M3 Max 36 GB": mac("Apple M3 Max", "applegpu_g15s", 36, 27 * GIB, 21743271936),
    "M4 Pro 24 GB": mac("Apple M4 Pro", "applegpu_g16s", 24, 16 * GIB, 14495514624),
    "M5 Max 128 GB": mac("Apple M5 Max", "applegpu_g17s", 128, 115427246080, 86586540032),
    "a hosted runner": mac("Apple Paravirtual device", "", 7, 5 * GIB, 3 * GIB),
    "keys are missing": Mac(),
    "odd values": Mac({"device_name": 7, "max_buffer_length": "much", "max_recommended_working_set_size": -1}),
    "the GPU does not answer": Mac(error="odd: no answer\nmore that nobody needs"),
    "no Metal device": Mac(error=NO_DEVICE, allocates=False),
}


@dataclass
class ScriptedSystem:
    """What macOS answers, as `mlxrun.memory.darwin` asks it; a test changes what it likes."""

    sysctls: dict[str, bytes]
    pages: dict[str, int] | None  # of struct vm_statistics64, those that count
    taken: int | None = 200 << 20

    @classmethod
    def idle(cls, mac: Mac) -> ScriptedSystem:
        """Half of its memory in use, no pressure, no swap."""
        count = mac.memory // PAGE
        system = cls({}, {"free": count // 4, "speculative": count // 16, "external": count // 4, "purgeable": 0})
        system.say("hw.memsize", mac.memory, 8)
        system.say("hw.pagesize", PAGE, 8)
        system.say("kern.memorystatus_level", 75)
        system.say("kern.memorystatus_vm_pressure_level", 1)
        system.swap(0)
        system.sysctls["machdep.cpu.brand_string"] = f"{mac.chip}\0".encode()
        return system

    def say(self, name: str, value: int, width: int = 4) -> None:
        self.sysctls[name] = value.to_bytes(width, sys.byteorder)

    def swap(self, used: int) -> None:
        self.sysctls["vm.swapusage"] = struct.pack("=QQQII", 2 * used, used, used, PAGE, 1)

    def sysctl(self, name: str) -> bytes | None:
        return self.sysctls.get(name)

    def vm_statistics(self) -> bytes | None:
        if self.pages is None:
            return None
        raw, p = bytearray(152), self.pages
        struct.pack_into("=4I", raw, 0, p["free"], 1, 2, 3)
        struct.pack_into("=2I", raw, 88, p["purgeable"], p["speculative"])
        struct.pack_into("=4I", raw, 128, 4, 5, p["external"], 6)
        return bytes(raw)

    def footprint(self) -> int | None:
        return self.taken


class FakeMLX:
    """The calls of `mlx.core` that tell of a GPU, as that Mac answers them, and what they were asked in order."""

    def __init__(self, mac: Mac) -> None:
        self.mac, self.device, self.asked = mac, mx.Device(mx.gpu), list[str]()
        self.wired: int | None = None
        self.system = ScriptedSystem.idle(mac)

    def default_device(self) -> mx.Device:
        self.asked.append("default_device")
        return self.device

    def set_default_device(self, device: mx.Device | mx.DeviceType) -> None:
        self.device = device if isinstance(device, mx.Device) else mx.Device(device)

    def is_available(self, device: mx.Device | mx.DeviceType) -> bool:
        return device in (mx.cpu, mx.Device(mx.cpu)) or self.mac.allocates

    def device_info(self, device: mx.Device | mx.DeviceType | None = None) -> dict[str, Any]:
        self.asked.append("device_info")
        kind = (self.device if device is None else device) if device != mx.cpu else mx.cpu
        if kind in (mx.cpu, mx.Device(mx.cpu)):
            return {"device_name": "Apple silicon", "architecture": "arm64"}
        if self.mac.error is not None:
            raise RuntimeError(self.mac.error)
        return dict(self.mac.info)

    def set_wired_limit(self, limit: int) -> int:
        if not self.mac.usable:
            raise RuntimeError(self.mac.error)
        before, self.wired = self.wired or 0, limit
        return before


def become(monkeypatch: pytest.MonkeyPatch, mac: Mac) -> FakeMLX:
    """MLX answers as on that Mac until the test ends."""
    fake = FakeMLX(mac)
    for name in ("default_device", "set_default_device", "is_available", "device_info"):
        monkeypatch.setattr(mx, name, getattr(fake, name))
    monkeypatch.setattr(mx, "set_wired_limit", fake.set_wired_limit)
    for name in () if mac.allocates else NEED_MEMORY:
        monkeypatch.setattr(mx, name, refuse)
    monkeypatch.setattr(darwin, "system", lambda: fake.system)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)  # always, of the macOS build
    for name in ("_answer", "no_arrays"):  # nothing was asked yet, and the old answers come back
        monkeypatch.setattr(gpu, name, cache(getattr(gpu, name).__wrapped__))
    return fake


# what takes memory from MLX or asks who gives it; `mx.array` does too, and is left because it is a class
NEED_MEMORY = (
    *("zeros", "ones", "full", "arange", "eval", "async_eval", "clear_cache", "get_active_memory", "get_cache_memory"),
    *("get_peak_memory", "set_cache_limit", "set_memory_limit", "set_wired_limit"),
)


def refuse(*given: Any, **more: Any) -> Any:
    raise RuntimeError(NO_DEVICE)
