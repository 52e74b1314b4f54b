"""Weights as the native kernels want them: mapped from a ready file, which is made where it is not there yet, or
packed in memory where no folder for such is given or none can be written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..families import Recipe
from ..memory.headroom import give_back
from ..nn.params import AS_STORED, Forms
from ..ops.native import pack
from ..ops.quantized import QuantizedWeight, Weight
from ..weights import Checkpoint, read_weights
from ..weights.checkpoint import BESIDE
from . import ready
from .checksums import Blocks
from .dry_run import DryRun
from .expert_offload import MappedFile, Place
from .forms import widen_weight
from .open import OpenedModel
from .options import LoadOptions
from .provenance import Source

LARGE = 32 << 20  # bytes of a weight


@dataclass(frozen=True, slots=True)
class Formed:
    """Weights as this device computes with them, or on the way to that."""

    weights: dict[str, Any]
    forms: Forms = AS_STORED  # what becomes of each as a block takes it
    note: str | None = None
    files: tuple[MappedFile, ...] = ()  # that the weights are views of
    places: Mapping[str, Place] = field(default_factory=dict)  # of every weight in the mapped file
    blocks: Blocks | None = None  # by which the mapped file is checked


def map_or_pack(opened: OpenedModel, dry: DryRun, options: LoadOptions) -> Formed:
    checkpoint, recipe = opened.checkpoint, opened.recipe
    note = None
    if options.ready is not None and is_kept(dry.weights.total):
        source = source_of(opened)
        try:
            file = ready.file_of(options.ready, source)
            found = ready.open_ready(file)
            if found is None:
                note = make_ready_file(file, source, checkpoint, recipe, dry, options)
                found = ready.open_ready(file) if note is None else None
                if found is None and note is None:
                    note = f"Packed weights were not kept: {file.name} is not what was written into it."
        except OSError as error:
            found, note = None, f"Packed weights were not kept: {error.strerror or error}."
        if found is not None:
            return Formed(found.weights, files=(found.mapped,), places=found.places, blocks=found.blocks)
    return Formed(read_weights(checkpoint, recipe), packing_forms(dry, options), note)


def is_kept(size: int) -> bool:
    """Whether packed weights of so many bytes are worth a file."""
    return size >= ready.LEAST


def source_of(opened: OpenedModel) -> Source:
    """All that decides on a packed weight, beside our code."""
    found, folder = opened.checkpoint, opened.path
    beside = (folder / name for name in BESIDE if (folder / name).is_file()) if folder.is_dir() else ()
    part = ("head",) if opened.recipe.decoder.joined is not None else (opened.share,) if opened.share else ()
    return Source(folder, (*found.files, *beside), " ".join((found.dialect, *sorted(opened.waive), *part)))


def make_ready_file(
    file: Path, source: Source, checkpoint: Checkpoint, recipe: Recipe, dry: DryRun, options: LoadOptions
) -> str | None:
    """Pack one weight after the other into the file; None, or why that could not be."""

    def formed() -> Iterator[tuple[str, ready.Formed]]:
        weights = read_weights(checkpoint, recipe)
        for name, matrix in dry.order.items():
            weight = weights.pop(name)
            if weight.nbytes >= LARGE:
                evaluate_and_free(weight)
            yield name, pack(weight) if matrix else widen_weight(weight)  # type: ignore[misc]  # plain after widening

    try:
        with ready.alone(file.parent):
            if file.exists():  # somebody else made it while we waited
                return None
            reason = ready.write_ready(file, source, formed(), len(dry.order), dry.weights.total, options.progress)
    except OSError as error:
        reason = f"{file.parent} could not be written: {error.strerror or error}"
    return None if reason is None else f"Packed weights were not kept: {reason}."


def evaluate_and_free(weight: Weight) -> None:
    """What it was made from goes back to the system before its packed form takes as much again."""
    mx.eval(*(weight.parts if isinstance(weight, QuantizedWeight) else (weight,)))
    give_back()


def packing_forms(dry: DryRun, options: LoadOptions) -> Forms:
    """The forms of the native kernels, telling how far they are."""
    done, total = 0, dry.weights.total

    def matrix(weight: Weight) -> Any:
        nonlocal done
        packed = pack(weight)
        done += packed.nbytes
        options.progress(min(done, total), total)
        return packed

    return Forms(matrix=matrix, other=widen_weight)
