"""Part: our kernels against float64: Metal's where there is one, and the CPU's where they are installed.

Of each kernel in each layout and type the worst error over shapes and cuts is told, as a part of what rounding allows:
above 1 it is wrong. On Metal also the milliseconds that its texts took to compile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from .. import gpu
from ..cpu_kernels import available, native, status
from ..metal_kernels.launch import told as reason_of
from ..ops.choose import Chooser
from . import cpu_cases, metal_cases
from .notes import Notes
from .results import NotRun
from .truth import KernelCase, Layout, beyond

QUICK_METAL: tuple[Layout, ...] = (("affine", 4, 64), ("mxfp4", 4, 32), ("affine", 6, 16))
QUICK_CPU: tuple[Layout, ...] = (("affine", 4, 32), ("affine", 6, 16), ("affine", 8, 64), ("nvfp4", 4, 16))
SPARE = 5.0  # seconds before the deadline at which no other case is begun


@dataclass(slots=True)
class Worst:
    """Over the cases of one name."""

    error: float = 0.0  # as a part of what is allowed
    cases: int = 0
    compile_ms: float = 0.0
    fault: str = ""


def compare(notes: Notes) -> str:
    said = []
    if Chooser().possible():
        layouts, types = (QUICK_METAL, (mx.bfloat16,)) if notes.quick else (metal_cases.LAYOUTS, metal_cases.TYPES)
        said.append(told(notes, "Metal", metal_cases.cases(layouts, types), timed=True))
    else:
        notes.number("metal", f"not run: {gpu.why_not() or 'the GPU here is not driven by Metal.'}")
        said.append("Metal's not run")
    if available:
        said += on_cpu(notes)
    else:
        notes.number("cpu", f"not run: {status().reason or 'they are not installed.'}")
        said.append("the CPU's not run")
    if not Chooser().possible() and not available:
        raise NotRun("There are no kernels of ours here, neither for Metal nor for the CPU.")
    return "; ".join(said)


def compare_validated(notes: Notes) -> str:
    """The same, less of it: Metal's checks make everything many times slower."""
    if not Chooser().possible():
        raise NotRun(gpu.why_not() or "The GPU here is not driven by Metal.")
    types = (mx.bfloat16,) if notes.quick else (mx.bfloat16, mx.float32)
    return told(notes, "Metal, validated", metal_cases.cases(QUICK_METAL[:1] if notes.quick else QUICK_METAL, types))


def on_cpu(notes: Notes) -> list[str]:
    said, before = [], native.isa()
    isas: Sequence[str] = [before] if notes.quick else native.isas()
    try:
        for isa in isas:
            native.choose_isa(isa)
            first = isa == isas[0] and not notes.quick
            layouts, types = (cpu_cases.LAYOUTS, cpu_cases.TYPES) if first else (QUICK_CPU, cpu_cases.TYPES[:2])
            said.append(told(notes, isa, cpu_cases.cases(layouts, types)))
    finally:
        native.choose_isa(before)
    return said


def told(notes: Notes, where: str, cases: Iterator[KernelCase], timed: bool = False) -> str:
    """One check a name; what there was no time for is told and is no fault."""
    found: dict[str, Worst] = {}
    complete = True
    for case in cases:
        if notes.left < SPARE:
            complete = False
            break
        if case.name not in found:
            notes.begin(f"{where}: {case.name}")
        run(case, found.setdefault(case.name, Worst()))
    for name, worst in found.items():
        good = worst.error <= 1 and not worst.fault
        compiled = {"compile_ms": round(worst.compile_ms, 1)} if timed else {}
        said = worst.fault or f"{worst.error:.2f} of the allowed error"
        notes.check(f"{where}: {name}", good, said, error=worst.error, cases=worst.cases, **compiled)
    wrong = sum(bool(one.error > 1 or one.fault) for one in found.values())
    rest = "" if complete else ", no time for the rest"
    return f"{where}: {sum(one.cases for one in found.values())} cases, {wrong} kernels wrong{rest}"


def run(case: KernelCase, worst: Worst) -> None:
    worst.cases += 1
    try:
        start = time.perf_counter()
        y = case.call()
        mx.eval(y)
        first = time.perf_counter() - start
        start = time.perf_counter()
        mx.eval(case.call())
        worst.compile_ms += 1e3 * max(0.0, first - (time.perf_counter() - start))
        if case.twin is not None:
            if not mx.array_equal(y, case.twin()):
                worst.fault = "the bits differ"
            return
        worst.error = max(worst.error, beyond(y, *case.exact(), case.slack))
    except (RuntimeError, ValueError) as error:  # the device refused a kernel
        worst.fault = reason_of(error)[:300]
