"""A checkpoint on disk -> a model that runs: headers, recipe, plan, weights, blocks. All of it or nothing.

What does not fit is refused before a weight is read. For the native kernels the packed weights are kept on disk where
a folder for them is given, and mapped from then on; else, and where that cannot be, they are made in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..families import Recipe, UnknownFamily, resolve
from ..families.config import Dialect
from ..families.gguf import resolve_gguf
from ..memory.headroom import give_back, let_large_blocks_go
from ..memory.machine import private_bytes
from ..memory.wiring import Policy
from ..nn.decoder import DecoderModel
from ..nn.params import AS_STORED, Forms
from ..ops.native import NATIVE, pack, release
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError
from ..weights import Checkpoint, open_checkpoint, read_weights
from . import ready
from .dry_run import DryRun, dry_run
from .expert_offload import Place, offload_experts
from .fallback import FallbackModel, load_fallback
from .fit import Overcommit, plan_load
from .forms import cast, held, reading, widen, widened
from .model import Model
from .ready import Progress

LARGE = 32 << 20  # bytes of a weight


def unheard(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is to be loaded."""

    context: int | None = None  # tokens that a person asked for; None: as many as fit
    anyway: bool = False  # although it does not fit
    memory: int | None = None  # bytes that a person grants
    mapped: bool = True  # weights that are used as stored are views into their file
    ready: Path | None = None  # where packed weights are kept; None: nowhere
    progress: Progress = unheard  # what it raises ends the load
    experts_on_disk: bool = False  # those that do not fit may stay there
    wire: Policy = "weights"  # what of a GPU's memory is kept from being paged out


@dataclass(frozen=True, slots=True)
class Loaded:
    weights: dict[str, Any]
    forms: Forms = AS_STORED
    note: str | None = None
    mapped: tuple[Any, ...] = ()  # files that the weights are views of
    places: Mapping[str, Place] = field(default_factory=dict)  # in the mapped file, of every weight


def load_model(
    path: str | Path,
    *,
    dtype: mx.Dtype | None = None,
    dialect: Dialect | None = None,
    waive: frozenset[str] = frozenset(),
    options: LoadOptions | None = None,
) -> Model | FallbackModel:
    """`dtype` None: as stored where the device computes it well (see `computed_in`), float32 on a CPU."""
    let_large_blocks_go()
    options, before = options or LoadOptions(), private_bytes() or 0
    path = Path(path)
    checkpoint = open_checkpoint(path, dialect=dialect, mapped=options.mapped, reading=reading(path, dtype))
    try:
        recipe = recipe_of(checkpoint, waive)
    except UnknownFamily as unknown:
        if checkpoint.dialect == "gguf":
            raise
        return load_fallback(path, checkpoint.config, unknown, dtype)
    seen = dry_run(checkpoint, recipe, here=True, dtype=dtype)
    how = Overcommit(options.anyway, options.experts_on_disk)
    settled = plan_load(recipe, seen, options.context, how, memory=options.memory)
    loaded = load_weights(checkpoint, recipe, seen, dtype, options)
    release()
    if settled.hot is not None and not loaded.mapped:
        raise ModelError(why_not_on_disk(loaded, options))
    decoder = DecoderModel(recipe.decoder, loaded.weights, fold_offsets=not recipe.folded, forms=loaded.forms)
    offload = None
    if settled.hot is not None:
        offload = offload_experts(decoder, loaded.mapped[0], loaded.places, settled.hot)
    notes = [f"{recipe.left_out} of this checkpoint is left out."] if recipe.left_out else []
    notes += [note for note in (loaded.note, settled.note) if note]
    return Model(
        decoder,
        tuple(notes),
        settled.context,
        replace(settled.budget, mapped=settled.made.weights if loaded.mapped else 0, wire=options.wire),
        before,
        (seen.width, seen.keys),
        loaded.mapped,
        offload,
    )


def why_not_on_disk(loaded: Loaded, options: LoadOptions) -> str:
    reason = loaded.note or ("--no-map forbids it." if options.ready is None else "the model is too small for it.")
    return f"Experts can stay on disk only where the packed weights are kept there: {reason}"


def recipe_of(checkpoint: Checkpoint, waive: frozenset[str] = frozenset()) -> Recipe:
    if checkpoint.dialect == "gguf":
        return resolve_gguf(checkpoint.metadata, checkpoint.shapes, checkpoint.rope_factors, waive)
    return resolve(checkpoint.config, checkpoint.dialect, waive)


def load_weights(
    checkpoint: Checkpoint, recipe: Recipe, seen: DryRun, dtype: mx.Dtype | None, options: LoadOptions
) -> Loaded:
    if dtype is None and NATIVE:
        return packed_weights(checkpoint, recipe, seen, options)
    weights = read_weights(checkpoint, recipe)
    if dtype is not None:
        return Loaded({name: cast(weight, dtype) for name, weight in weights.items()})
    if mx.default_device().type == mx.DeviceType.cpu:
        wide, note = widen(weights)
        return Loaded(wide, note=note)
    return Loaded(held(weights, checkpoint.dialect, recipe.decoder.family))


def packed_weights(checkpoint: Checkpoint, recipe: Recipe, seen: DryRun, options: LoadOptions) -> Loaded:
    note = None
    if options.ready is not None and seen.weights.total >= ready.LEAST:
        files = (*checkpoint.files, *((checkpoint.path / "config.json",) if checkpoint.path.is_dir() else ()))
        source = ready.Source(checkpoint.path, files, checkpoint.dialect)
        file = options.ready / ready.name_of(source)
        found = ready.opened(file)
        if found is None:
            note = kept_aside(file, source, checkpoint, recipe, seen, options)
            found = ready.opened(file) if note is None else None
        if found is not None:
            return Loaded(found.weights, mapped=(found.mapped,), places=found.places)
    return Loaded(read_weights(checkpoint, recipe), watched(seen, options), note)


def kept_aside(
    file: Path, source: ready.Source, checkpoint: Checkpoint, recipe: Recipe, seen: DryRun, options: LoadOptions
) -> str | None:
    """Pack one weight after the other into the file; None, or why that could not be."""

    def formed() -> Iterator[tuple[str, ready.Formed]]:
        weights = read_weights(checkpoint, recipe)
        for name, matrix in seen.order.items():
            weight = weights.pop(name)
            if weight.nbytes >= LARGE:
                computed(weight)
            yield name, pack(weight) if matrix else widened(weight)  # type: ignore[misc]  # plain after widening

    try:
        with ready.alone(file.parent):
            if file.exists():  # somebody else made it while we waited
                return None
            reason = ready.make(file, source, formed(), len(seen.order), seen.weights.total, options.progress)
    except OSError as error:
        reason = f"{file.parent} could not be written: {error.strerror or error}"
    return None if reason is None else f"Packed weights were not kept: {reason}."


def computed(weight: Weight) -> None:
    """What it was made from goes back to the system before its packed form takes as much again."""
    mx.eval(*(weight.parts if isinstance(weight, QuantizedWeight) else (weight,)))
    give_back()


def watched(seen: DryRun, options: LoadOptions) -> Forms:
    """The forms of the native kernels, telling how far they are."""
    done, total = 0, seen.weights.total

    def matrix(weight: Weight) -> Any:
        nonlocal done
        packed = pack(weight)
        done += packed.nbytes
        options.progress(min(done, total), total)
        return packed

    return Forms(matrix=matrix, other=widened)
