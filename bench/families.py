"""The families that people run, none of them tuned for: ours beside llama.cpp, in turns within one run.

    python bench/families.py [--shape NAME ...] [--form Q4_0|Q4_K_M|Q8_0 ...] [--rounds N] [--deep] [--keep] [--json]

Every shape is that of a published model, cut in layers and experts to some hundred megabytes and filled with random
weights (`bench/shapes`). How it is measured, `bench/cpu.py` says. A cell is our tokens a second and, in brackets, the
ratio to llama.cpp on the same file; `floor` is the share of what reading weights and keys once would allow. A shape's
files are deleted when it is measured, or kept in ~/.cache/mlxrun-bench. Run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cpu import Case, Measure, machine, measured, memory, number, rows
from peers import place
from peers.floor import read_bandwidth
from shapes import SHAPES
from shapes.blocks import FORMS

MEASURES = (
    Measure("decode after 32", 32, steps=16),
    Measure("decode after 2048", 2048, steps=12),
    Measure("prompt of 512", 512),
    Measure("prompt of 2048", 2048),
    Measure("8 decode after 32", 32, batch=8, steps=8),
)
DEEP = Measure("decode after 8000", 8000, steps=12)
FLOORED = "decode after 32"
FOLDER = place.CACHE / "shapes"


def file_of(name: str, form: str) -> Path:
    return place.made(FOLDER / f"{name}-{form.lower()}.gguf", lambda part: SHAPES[name].write(part, form))


def case_of(name: str, form: str) -> Case:
    return Case(name, {form: lambda: file_of(name, form)})


def measure(name: str, form: str, flags: argparse.Namespace, bandwidth: float) -> list[dict[str, Any]]:
    case, asked = case_of(name, form), (*MEASURES, DEEP) if flags.deep else MEASURES
    runners = measured(case, flags.threads, flags.rounds, asked)
    found = rows(case, runners, bandwidth, asked)
    peaks = [row for row in memory(case, runners, asked) if row["engine"] == "mlxrun" and "over" in row]
    for row in found:
        row["memory"] = peaks[0]["over"] if peaks else None
    return found


def forget(name: str, form: str) -> None:
    file = FOLDER / f"{name}-{form.lower()}.gguf"
    file.unlink(missing_ok=True)
    for ready in place.READY.glob(f"*{file.stem}*"):
        ready.unlink()


def table(found: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(row["measure"] for row in found))
    lines = ["| shape | form | " + " | ".join(names) + " | floor | memory |", "|---" * (len(names) + 4) + "|"]
    for shape, form in dict.fromkeys((row["model"], row["form"]) for row in found):
        mine = {row["measure"]: row for row in found if (row["model"], row["form"]) == (shape, form)}
        floor, over = mine[FLOORED].get("floor_share"), mine[FLOORED].get("memory")
        ends = ["" if floor is None else f"{floor:.0%}", "" if over is None else number(over)]
        lines.append(
            f"| {shape} | {form} | " + " | ".join([*(cell(mine.get(name, {})) for name in names), *ends]) + " |"
        )
    return lines


def cell(row: dict[str, Any]) -> str:
    if "died" in row:
        return "; ".join(f"{engine} died: {how}" for engine, how in row["died"].items())
    if "ours" not in row:
        return ""
    return number(row["ours"]) + (f" ({number(row['llama_ratio'])}x)" if "llama_ratio" in row else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only this one (repeatable)")
    parser.add_argument("--form", action="append", choices=FORMS, help="only this one (repeatable); else Q4_0, Q4_K_M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--deep", action="store_true", help="decode after 8,000 tokens too, which takes minutes each")
    parser.add_argument("--keep", action="store_true", help="keep the files of the shapes")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    here, bandwidth, found = machine(flags.threads), read_bandwidth(flags.threads), []
    for name in flags.shape or SHAPES:
        for form in flags.form or ("Q4_0", "Q4_K_M"):
            found += (mine := measure(name, form, flags, bandwidth))
            place.say("\n".join(table(mine)[2:]))
            if not flags.keep:
                forget(name, form)
    if flags.json:
        print(json.dumps({"machine": here, "bandwidth": bandwidth, "speeds": found}, indent=2))
        return
    print(f"{here['processor']}, {here['cores']} cores, {flags.threads} threads; medians of {flags.rounds} rounds;")
    print(f"memory reads at {bandwidth / 1e9:.1f} GB/s. llama.cpp is built {here['llama_built']}.\n")
    print("\n".join([*table(found), "", *(f"{name}: {SHAPES[name].title}." for name in flags.shape or SHAPES)]))


if __name__ == "__main__":
    sys.exit(main())
