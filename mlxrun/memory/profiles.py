"""Macs that are not here: memory sizes and bandwidth of every M1 to M5 chip, and what Metal lets a model have.

Sizes and bandwidths are Apple's own, from its technical specifications and newsroom (support.apple.com/specs; a GB of
memory is 2^30 bytes, a GB/s 10^9). Where one name covers two bandwidths, the memory size tells them apart:
the smaller M3, M4 and M5 Max have fewer GPU cores and a narrower bus.

Metal's recommended working set is measured by others, never here: two thirds below 36 GB (21845 MiB of 32 GB, 10923
MiB of 16 GB: ggml-org/llama.cpp#2011, abetlen/llama-cpp-python#687), three quarters from there on (49152 MiB of 64
GB, 73728 of 96: llama.cpp#1870, #3213). macOS 26 gives more on large ones (107.5 of 128 GiB: antirez/ds4#893); the
smaller share is planned with, so a plan errs on the safe side. The largest buffer is 36 of 64 GiB (wgpu#2502) and
half of 8 (llama.cpp#1706); half is planned with.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from ..spec import ModelError
from .machine import Machine

GIB = 2**30
LARGE = 36  # GB from which Metal recommends three quarters
BUFFER_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Chip:
    name: str
    memory: tuple[int, ...]  # GB
    bandwidth: float  # GB/s


CHIPS = (
    Chip("M1", (8, 16), 68.25),
    Chip("M1 Pro", (16, 32), 200),
    Chip("M1 Max", (32, 64), 400),
    Chip("M1 Ultra", (64, 128), 800),
    Chip("M2", (8, 16, 24), 100),
    Chip("M2 Pro", (16, 32), 200),
    Chip("M2 Max", (32, 64, 96), 400),
    Chip("M2 Ultra", (64, 128, 192), 800),
    Chip("M3", (8, 16, 24), 100),
    Chip("M3 Pro", (18, 36), 150),
    Chip("M3 Max", (36, 96), 300),  # 30 GPU cores
    Chip("M3 Max", (48, 64, 128), 400),  # 40
    Chip("M3 Ultra", (96, 256, 512), 819),
    Chip("M4", (16, 24, 32), 120),
    Chip("M4 Pro", (24, 48, 64), 273),
    Chip("M4 Max", (36,), 410),  # 32 GPU cores
    Chip("M4 Max", (48, 64, 128), 546),  # 40
    Chip("M5", (16, 24, 32), 153.6),
    Chip("M5 Pro", (24, 48, 64), 307),
    Chip("M5 Max", (36,), 460),  # 32 GPU cores
    Chip("M5 Max", (48, 64, 128), 614),  # 40
)
ASKED = re.compile(r"(?:apple\s*)?(m\d+)\s*(pro|max|ultra)?[\s,/-]*(\d+)\s*(?:gi?b?)?", re.IGNORECASE)
BRAND = re.compile(r"\b(M\d+(?: Pro| Max| Ultra)?)\b")


def profile(text: str) -> Machine:
    """The machine of that name and memory: "M4 Pro 24GB"."""
    asked = ASKED.fullmatch(text.strip())
    if asked is not None:
        name = " ".join(part.capitalize() for part in asked.group(1, 2) if part)
        for chip in CHIPS:
            if chip.name == name and int(asked.group(3)) in chip.memory:
                return machine(chip, int(asked.group(3)))
    raise ModelError(f"There is no machine {text[:40]!r} in the table; close to it: {', '.join(_close(text, asked))}.")


def machine(chip: Chip, memory: int) -> Machine:
    return Machine(
        name=f"{chip.name} {memory}GB",
        total=memory * GIB,
        usable=memory * GIB * 3 // 4 if memory >= LARGE else memory * GIB * 2 // 3,
        gpu=True,
        bandwidth=chip.bandwidth * 1e9,
        max_buffer=int(memory * GIB * BUFFER_SHARE),
    )


def machines() -> list[Machine]:
    """Every profile, the smallest memory first and of those the slowest."""
    found = [machine(chip, memory) for chip in CHIPS for memory in chip.memory]
    return sorted(found, key=lambda m: (m.total, m.bandwidth or 0))


def bandwidth_of(name: str, total: int) -> float | None:
    """Of the chip whose name stands in the text, by the memory it comes with."""
    found = BRAND.search(name)
    if found is None:
        return None
    chips = [chip for chip in CHIPS if chip.name == found.group(1)]
    fitting = [chip for chip in chips if round(total / GIB) in chip.memory] or chips
    return min(chip.bandwidth for chip in fitting) * 1e9 if fitting else None


def _close(text: str, asked: re.Match[str] | None) -> list[str]:
    """The same chip with the memory it comes with, else names that look alike."""
    names = [machine.name for machine in machines()]
    if asked is not None:
        chip = " ".join(part.capitalize() for part in asked.group(1, 2) if part)
        same = [name for name in names if name.rpartition(" ")[0] == chip]
        if same:
            return same
    wanted = re.sub(r"\s*(\d+)\s*gi?b?$", r" \1GB", text.strip()[:40], flags=re.IGNORECASE)
    alike = difflib.get_close_matches(wanted.upper(), [name.upper() for name in names], n=4, cutoff=0.4)
    return [name for name in names if name.upper() in alike] or ["M1 16GB", "M4 Pro 24GB", "M5 Max 128GB"]
