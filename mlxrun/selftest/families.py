"""Part: small models of every family, through the real loader, beside what their authors' own code makes of them.

`families.npz` holds their configs, the shapes of their tensors and the last row that transformers put out in float32;
weights are drawn again from their names. `tests/golden/shipped.py` makes it of the project's references. Each is asked
twice: the whole prompt at once, and its last token alone after the others.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..loading import load_model
from .draw import draw
from .notes import Notes
from .results import NotRun

DATA = "families.npz"
# differences as a part of the largest output. `docs/models.md` lists what was measured on a CPU; keys in float16 and
# products in whole numbers are off by up to 3e-3 there, and what a GPU's float32 products are off by nobody knows yet
ALLOWED = 5e-3
SWAPS = 2  # mixtures that may be further off: where two experts are nearly as good, rounding may swap them
SPARE = 3.0  # seconds before the deadline at which no other one is begun


@dataclass(frozen=True, slots=True)
class FamilyCase:
    name: str
    seed: int
    encoder: bool
    mixture: bool
    quick: bool
    prompt: tuple[int, ...]
    config: dict[str, Any]
    tensors: dict[str, tuple[list[int], str]]  # by name: shape, and how it is drawn
    expected: NDArray[np.float32]  # the last row: logits, or hidden values of an encoder


def cases() -> Iterator[FamilyCase]:
    with np.load(io.BytesIO(files(__package__).joinpath(DATA).read_bytes()), allow_pickle=False) as held:
        told, rows = json.loads(held["manifest"].tobytes()), held["expected"]
    start = 0
    for name, one in told.items():
        width = one.pop("width")
        one["prompt"] = tuple(one["prompt"])
        yield FamilyCase(name=name, expected=rows[start : start + width], **one)
        start += width


def compare(notes: Notes) -> str:
    found: dict[str, float] = {}
    swapped, late = list[str](), 0
    chosen = [case for case in cases() if case.quick or not notes.quick]
    for case in chosen:
        if notes.left < SPARE:
            late += 1
            continue
        notes.begin(case.name)
        with tempfile.TemporaryDirectory(prefix="mlxrun-selftest-") as folder:
            off = found[case.name] = difference(case, Path(folder))
        if off <= ALLOWED:
            continue
        if case.mixture and off < 1 and len(swapped) < SWAPS:
            swapped.append(case.name)
        else:
            notes.check(case.name, False, f"off by {off:.1e} of the largest output; {ALLOWED:.0e} is allowed")
    notes.number("differences", found)
    notes.number("perhaps_other_experts", swapped)
    notes.number("no_time_for", late)
    if not found:
        raise NotRun("There was no time for any of them.")
    worst = max(found, key=lambda name: found[name])
    notes.number("worst", [worst, found[worst]])
    rest = f"; no time for {late}" if late else ""
    return f"{len(found)} models, the worst off by {found[worst]:.1e} ({worst}){rest}"


def difference(case: FamilyCase, folder: Path) -> float:
    """The larger of both ways, as a part of the largest output."""
    write(case, folder)
    model = load_model(folder)
    ids, worst = mx.array(case.prompt, mx.int32), 0.0
    for first in (len(case.prompt), *(() if case.encoder else (len(case.prompt) - 1,))):
        memory = model.new_sequence(len(case.prompt))
        for part in (ids[:first], ids[first:]):
            if part.size:
                hidden = model(part, [(memory, part.size)])
        row = hidden[-1:] if case.encoder else model.logits(hidden[-1:])
        off = np.abs(np.array(row[0].astype(mx.float32), np.float64) - case.expected).max()
        worst = max(worst, float(off / np.abs(case.expected).max()) if np.isfinite(off) else np.inf)
    return worst


def write(case: FamilyCase, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(case.config), encoding="utf-8")
    weights = {
        name: mx.array(draw(case.name, name, tuple(shape), kind, case.seed))
        for name, (shape, kind) in case.tensors.items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "pt"})
