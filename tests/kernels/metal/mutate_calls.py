"""Mutants of what launches and chooses kernels, in Python: one thing changed at a time; the tests must notice.

    python -m tests.kernels.metal.mutate_calls [file ...] [--sample N] [--seed S] [--minutes M] [--survivors]

Tests run in a process of their own with the text replaced; no file is changed. Results stand in
build/mutants/calls.jsonl, and a run goes on where the last one stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from .. import mutants, mutated, python_mutants
from ..mutants import ROOT, SURVIVED, Equivalent, Mutant

METAL, CPU = "tests/kernels/metal/test_", "tests/kernels/cpu/test_"
CALLS = [f"{METAL}calls.py", f"{METAL}refusals.py"]
TESTS: dict[str, list[str]] = {
    "metal_kernels/attention.py": CALLS,
    "metal_kernels/check.py": CALLS,
    "metal_kernels/experts.py": CALLS,
    "metal_kernels/glue.py": CALLS,
    "metal_kernels/launch.py": [f"{METAL}launch.py", *CALLS, f"{METAL}choosing.py"],
    "metal_kernels/norms.py": CALLS,
    "metal_kernels/products.py": CALLS,
    "metal_kernels/tiles.py": [*CALLS, f"{METAL}choosing.py"],
    "mlxrun/ops/choose.py": [f"{METAL}choosing.py"],
    "mlxrun/ops/metal.py": [f"{METAL}choosing.py", f"{METAL}groups_of_16.py"],
    "mlxrun/ops/fused.py": [f"{CPU}fused.py"],
    "mlxrun/ops/native.py": [f"{CPU}fused.py"],
    "mlxrun/ops/device.py": [f"{CPU}fused.py"],
}
SECONDS = 300
EQUIVALENT = (
    Equivalent("metal_kernels/norms.py", r"return x, x, 0\.5, False", "without a norm the kernel reads no eps"),
    Equivalent("mlxrun/ops/metal.py", r"max\(\) <= allowed", "off by exactly what is allowed"),
    Equivalent("mlxrun/ops/metal.py", r"randint\(.*\(1 << 31\) - 2", "one code of 2^32 that is never drawn"),
    Equivalent("mlxrun/ops/metal.py", r"for rows in \(1, 5, 41\)", "of 40 rows the first 41 are all"),
)


def fate(mutant: Mutant) -> str:
    path = ROOT / mutant.file
    return mutated.tested(path, mutant.applied(path.read_text()), TESTS[mutant.file], SECONDS)


def prove(file: str) -> None:
    line = (ROOT / file).read_text().splitlines()[0]
    if (end := fate(Mutant(file, 1, line, line))) != SURVIVED:
        raise SystemExit(f"{file} as it is does not pass: {end}")


def mutants_of(file: str) -> Iterator[Mutant]:
    return python_mutants.mutants_of(file, ROOT / file)


def main(arguments: list[str]) -> int:
    plan = mutants.Plan("calls", {file: ROOT / file for file in TESTS}, mutants_of, fate, prove, EQUIVALENT)
    return mutants.main(plan, __doc__ or "", arguments, jobs=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
