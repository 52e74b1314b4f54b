"""How llama.cpp is built for this processor: with its native flags, but for one that shows AMX.

There a native build uses AMX tiles, and dies of an illegal instruction where the system does not grant their state
(containers, virtual machines). What a build without them may use is named one by one. Knows no file of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NATIVE = "-DGGML_NATIVE=ON"
OPTIONS = {  # ggml's option: what the processor must have
    "AVX": ("avx",),
    "AVX2": ("avx2",),
    "FMA": ("fma",),
    "F16C": ("f16c",),
    "BMI2": ("bmi2",),
    "AVX_VNNI": ("avx_vnni",),
    "AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    "AVX512_VBMI": ("avx512vbmi",),
    "AVX512_VNNI": ("avx512_vnni",),
    "AVX512_BF16": ("avx512_bf16",),
}


@dataclass(frozen=True)
class Build:
    options: str  # for CMake
    told: str
    folder: str  # of its own in the benches' cache


def build(cpuinfo: str | None = None) -> Build:
    """`cpuinfo`: what Linux says about the processor; None: this one's."""
    if cpuinfo is None:
        cpuinfo = CPUINFO.read_text() if CPUINFO.exists() else ""
    has = flags_of(cpuinfo)
    if not any(flag.startswith("amx_") for flag in has):
        return Build(NATIVE, "with its native flags", "llama")
    on = [option for option, needed in OPTIONS.items() if has.issuperset(needed)]
    chosen = " ".join(f"-DGGML_{option}={'ON' if option in on else 'OFF'}" for option in OPTIONS)
    told = f"without AMX, which native builds die of where a system grants it no tiles; with {', '.join(on)}"
    return Build(f"-DGGML_NATIVE=OFF {chosen}", told, "llama-without-amx")


def flags_of(cpuinfo: str) -> set[str]:
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
