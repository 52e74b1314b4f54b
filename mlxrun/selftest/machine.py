"""Part: what this machine is and in what state: chip, system, MLX, memory, power. No name, no serial number.

A Mac's answers are read as Apple's manuals describe them, and never were on one; what is not answered is left out.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import gpu
from ..cpu_kernels import status
from ..memory import darwin
from ..memory.here import this_machine
from ..memory.machine import available_bytes
from .notes import Notes

PACKAGES = ("mlx", "mlx-metal", "mlx-lm", "numpy", "tokenizers")
# the only keys of sysctl that are asked; none of them is of one single machine
TEXTS = ("machdep.cpu.brand_string", "hw.model", "kern.osproductversion", "kern.osversion")
NUMBERS = (
    "hw.memsize",
    "hw.pagesize",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
    "iogpu.wired_limit_mb",
    "kern.memorystatus_level",
    "kern.memorystatus_vm_pressure_level",
    "sysctl.proc_translated",
)
ITS_OWN = ("uuid", "serial", "pci")  # in keys of what MLX says of a device: an NVIDIA card has them
SECONDS = 4  # for another program
Told = Callable[..., str]


def program(*command: str) -> str:
    """What it prints; nothing where it is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def look(notes: Notes) -> str:
    machine = this_machine()
    notes.number("chip", machine.name)
    notes.number("system", system())
    notes.number("python", f"{platform.python_version()} {platform.machine()}")
    notes.number("packages", {name: version for name in PACKAGES if (version := version_of(name))})
    notes.number("gpu", {"usable": gpu.usable(), "metal": gpu.metal(), "why_not": gpu.why_not(), "cores": gpu_cores()})
    notes.number("device_info", plain(gpu.info()))
    sizes = {"total": machine.total, "usable": machine.usable, "available": available_bytes()}
    notes.number("memory", {**sizes, "max_buffer": machine.max_buffer, "bandwidth": machine.bandwidth})
    notes.number("cores", machine.cores)
    notes.number("sysctl", sysctl())
    notes.number("limits", limits())
    notes.number("swap", swap())
    notes.number("power", power())
    native = status()
    notes.number("native_kernels", {"available": native.available, "reason": native.reason, "isa": native.isa})
    sound = 0 < machine.usable <= machine.total
    notes.check("memory", sound, f"{machine.usable} of {machine.total} bytes can be used for a model")
    kind = "GPU" if machine.gpu else "CPU"
    return f"{machine.name}, {machine.total / 2**30:.0f} GiB, MLX {version_of('mlx')} on the {kind}"


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def system() -> str:
    mac = platform.mac_ver()[0]
    return f"macOS {mac}" if mac else f"{platform.system()} {platform.release()}"


def plain(info: dict[str, Any]) -> dict[str, Any]:
    """Numbers and short texts, and none that only this one device has."""
    kept = {key: value for key, value in info.items() if not any(word in key.lower() for word in ITS_OWN)}
    return {key: value if isinstance(value, int | float) else str(value)[:100] for key, value in kept.items()}


def sysctl() -> dict[str, Any]:
    texts = {name: darwin.sysctl_text(name) for name in TEXTS}
    numbers = {name: darwin.sysctl_number(name) for name in NUMBERS}
    return {name: value for name, value in {**texts, **numbers}.items() if value is not None}


def limits() -> dict[str, Any]:
    kinds = {"descriptors": resource.RLIMIT_NOFILE, "locked": resource.RLIMIT_MEMLOCK, "data": resource.RLIMIT_DATA}
    return {name: list(resource.getrlimit(kind)) for name, kind in kinds.items()}


def gpu_cores(told: Told = program) -> int | None:
    if sys.platform != "darwin":
        return None
    found = re.search(r'"gpu-core-count"\s*=\s*(\d+)', told("/usr/sbin/ioreg", "-r", "-c", "AGXAccelerator", "-d", "1"))
    return int(found[1]) if found else None


def swap() -> dict[str, int]:
    """Bytes."""
    if (used := darwin.swap_used()) is not None:
        return {"used": used}
    found = re.findall(r"^Swap(Total|Free):\s+(\d+) kB", text_of("/proc/meminfo"), re.MULTILINE)
    return {name.lower(): int(amount) * 1024 for name, amount in found}


def power(told: Told = program) -> dict[str, Any]:
    """Where the power comes from, and whether the system saves it: both change speeds."""
    if sys.platform == "darwin":
        source = re.search(r"drawing from '([\w ]+)'", told("/usr/bin/pmset", "-g", "batt"))
        saving = re.search(r"lowpowermode\s+(\d)", told("/usr/bin/pmset", "-g"))
        slowed = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", told("/usr/bin/pmset", "-g", "therm"))
        found = {"source": source, "low_power_mode": saving, "cpu_speed_limit": slowed}
        return {name: match[1] for name, match in found.items() if match}
    online = [text_of(file).strip() for file in sorted(Path("/sys/class/power_supply").glob("*/online"))]
    return {"source": "AC Power" if "1" in online else "Battery Power"} if online else {}


def text_of(file: str | Path) -> str:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
