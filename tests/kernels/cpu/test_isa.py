"""Which instruction sets are used: all that this CPU has, the best first, or the one that MLXRUN_ISA names."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlxrun.cpu_kernels import native

from .compiled import ROOT

CPU = Path("/proc/cpuinfo")
AVX512 = {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}
NEEDED = {
    "amx": {*AVX512, "amx_tile", "amx_int8", "granted"},
    "avx512": AVX512,
    "avxvnni": {"avx2", "fma", "f16c", "avx_vnni"},
    "avx2": {"avx2", "fma", "f16c"},
    "neon": {"asimddp"},
    "base": set(),
}


def tiles_are_granted() -> bool:
    """Whether Linux lets this process use AMX's tiles, which it must ask for (arch_prctl, ARCH_REQ_XCOMP_PERM)."""
    return ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0


def test_those_that_the_system_says_this_cpu_has_are_offered_best_first() -> None:
    if not CPU.exists():
        pytest.skip("There is no /proc/cpuinfo here to compare with.")
    lines = CPU.read_text().splitlines()
    has = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}
    if "amx_tile" in has and tiles_are_granted():
        has.add("granted")
    assert native.isas() == [name for name, needed in NEEDED.items() if needed <= has]


def test_one_is_chosen_by_its_name() -> None:
    for name in (*native.isas(), *reversed(native.isas())):
        assert native.choose_isa(name)
        assert native.isa() == name
    assert not native.choose_isa("avx1024")
    assert not native.choose_isa("")
    assert native.isa() == native.isas()[0]


@pytest.mark.parametrize("wish", ["best", "last", "unknown"])
def test_the_environment_chooses(wish: str) -> None:
    best, *_, last = (*native.isas(), native.isas()[-1])
    named = {"best": best, "last": last, "unknown": "avx1024"}[wish]
    text = "from tests.kernels.cpu.library import native; print(native.isa())"
    done = subprocess.run(
        [sys.executable, "-c", text], env=os.environ | {"MLXRUN_ISA": named}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == (last if wish == "last" else best), done.stderr
