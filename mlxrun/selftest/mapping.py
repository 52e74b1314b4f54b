"""Part: a checkpoint of 300 tensors in 8 files is loaded as a Mac loads one: as views into its files, if that can be.

Told are what was really done and why, whether every value is what was written, and what the process holds of memory
and descriptors before, during and after. That a file is read instead of mapped is told and is no fault.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..loading import LoadOptions, load_model
from ..weights import open_checkpoint
from .held import MIB, HeldNow, held
from .made import Dimensions, tensor, write
from .notes import Notes

LEFT = 24 * MIB  # that may stay behind: what kernels work in, and what Python imports at the first load
FEW = Dimensions(dim=128, hidden=256)


def load_and_let_go(notes: Notes) -> str:
    shape = FEW if notes.quick else Dimensions()
    with tempfile.TemporaryDirectory(prefix="mlxrun-selftest-") as scratch:
        folder = Path(scratch)
        size = write(folder, shape)
        notes.number("bytes", size)
        step(folder)  # what only the first load takes
        before = held()
        notes.begin("loading")
        said, during = loaded(folder, notes)
        grown = during.since(before)
        notes.number("while_loaded", grown)
        few = shape.files + 8
        notes.check("descriptors", grown["descriptors"] <= few, f"{grown['descriptors']} more while loaded", most=few)
        left = held().since(before)
        notes.number("after_unload", left)
        notes.check("unload", left["private"] <= LEFT, f"{left['private'] / MIB:.1f} MiB stayed behind")
        notes.check("closed", left["descriptors"] <= 0, f"{left['descriptors']} descriptors stayed open")
        notes.begin("comparing values")
        wrong, count = wrong_tensors(folder, shape), len(list(shape.shapes()))
        told_wrong = f"{len(wrong)} are not as they were written: {', '.join(wrong[:3])}"
        notes.check("values", not wrong, told_wrong if wrong else f"all {count} as they were written")
    more = f"{grown['private'] / MIB:+.0f} MiB and {grown['descriptors']:+} descriptors while loaded"
    return f"{count} tensors in {shape.files} files, {size / MIB:.0f} MiB: {said}; {more}"


def loaded(folder: Path, notes: Notes) -> tuple[str, HeldNow]:
    """What was done, and what is held meanwhile."""
    model = step(folder)
    used = model.holdings.used
    notes.number("used", used.data())
    notes.number("said", list(used.sentences))
    return used.memory.rstrip("."), held()


def step(folder: Path) -> Any:
    """In the type that it is stored in, so that nothing has to be made of it: as on a GPU."""
    model = load_model(folder, dtype=mx.bfloat16, options=LoadOptions(mapped=True))
    memory = model.new_sequence(64)
    mx.eval(model.logits(model(mx.array([1, 2, 3], mx.int32), [(memory, 3)])))
    return model


def wrong_tensors(folder: Path, shape: Dimensions) -> list[str]:
    found = open_checkpoint(folder).tensors()
    return [
        name
        for name, extent in shape.shapes()
        if not mx.array_equal(found[name].view(mx.uint16), tensor(name, extent).view(mx.uint16))  # type: ignore[union-attr]  # plain as made
    ]
