"""mlxrun on an NVIDIA card, tried: a table, and a JSON file that is written anew after each part.

    python bench/gpu.py [--report FILE] [--quick] [part ...]

Each part is a process with a deadline, so one that hangs costs its time and no more; all take 20 minutes at most. It
was never run on a card: without one the parts that need it say so. Wants MLX's CUDA build, the extra cuda12 or cuda13.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mlxrun.selftest import Part, Result, run  # noqa: E402 the repository must be on the path first
from mlxrun.selftest.report import report  # noqa: E402 as above

FOUND = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
HERE, SELFTEST = "bench.card.parts", "mlxrun.selftest"
PARTS = (
    Part("machine", "This machine", f"{SELFTEST}.machine:look", 30, 10),
    Part("layouts", "Quantized layouts", f"{HERE}:layouts", 180, 30, FOUND),
    Part("families", "Families of models", f"{HERE}:families", 240, 30, FOUND),
    Part("kernels", "Our kernels as CUDA", f"{HERE}:kernels", 420, 60, FOUND),
    Part("starter", "SmolLM2", f"{HERE}:starter", 120, 30, FOUND),
    Part("mixture", "A random mixture", f"{HERE}:mixture", 180, 30, FOUND),
)


def main(arguments: Sequence[str], parts: Sequence[Part] = PARTS) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="part", help=", ".join(part.name for part in parts))
    options.add_argument("--report", type=Path, metavar="FILE", help="JSON, written anew after each part")
    options.add_argument("--quick", action="store_true", help="less of everything")
    flags = options.parse_args(arguments)
    if unknown := [name for name in flags.parts if name not in {part.name for part in parts}]:
        options.error(f"there is no part {unknown[0]}; there are {', '.join(part.name for part in parts)}")
    chosen = [part for part in parts if part.name in (flags.parts or [one.name for one in parts])]
    results: list[Result] = []
    try:
        written(flags.report, results, quick=flags.quick)  # one that cannot be written is told before anything runs
        for result in run(chosen, quick=flags.quick, whole=sum(part.allowed(flags.quick) for part in chosen)):
            results.append(result)
            print(f"{result.part.title:22} {result.state:8} {result.seconds:6.1f} s  {result.said}", flush=True)
            written(flags.report, results, quick=flags.quick)
    except OSError as error:
        options.error(f"the report {flags.report} cannot be written: {error.strerror or error}; name another file")
    return 0 if all(result.well for result in results) else 1


def written(file: Path | None, results: Sequence[Result], *, quick: bool) -> None:
    """Whole or not at all."""
    if file is not None:
        made = file.with_name(f".{file.name}.{os.getpid()}")
        made.write_text(json.dumps(report(results, quick=quick), indent=1) + "\n", encoding="utf-8")
        made.replace(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
