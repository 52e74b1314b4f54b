"""An adapter for a model: its matrices in the form that this device multiplies by.

All or nothing: what it changes must be there, of that shape, and in a place that may change while the model runs. What
it will take is told by its header, before anything is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import mlx.core as mx

from ..adapters.canonical import canonical_changes
from ..adapters.files import AdapterFile, read_adapter_file
from ..adapters.whole import expert_changes, expert_modules, whole_weights
from ..memory.headroom import Headroom
from ..memory.weights import ADAPTERS
from ..nn.decoder import DecoderModel
from ..nn.linear import AdaptedPlace
from ..ops.adapters import Adapter, AdapterPart
from ..ops.device import Device
from ..ops.native import pack
from ..ops.quantized import Matrix, QuantizedWeight, Weight
from ..spec import ModelError, shown
from ..weights import read_weights
from ..weights.apply import apply_to_adapter
from ..weights.lowrank import LowRank
from .dry_run import FLOAT, DryRun, packed_bytes
from .forms import reading_of
from .loaded_adapters import LoadedAdapters
from .model import Holdings
from .open import OpenedModel
from .options import LoadOptions

APART = "Adapters may change its layers, so our Metal kernels that join their work are not used: more launches a token."
NAMED = 3  # weights that an error lists


@dataclass(frozen=True)
class AdapterForModel:
    """Its files are read, and belong to this model."""

    name: str
    file: AdapterFile
    changes: Mapping[str, LowRank]
    opened: OpenedModel

    @property
    def nbytes(self) -> int:
        return sum(formed_bytes(change, self.opened.device) for change in self.changes.values())

    def form(self) -> Adapter:
        lengthened = any(change.magnitude is not None for change in self.changes.values())
        weights = _base_weights(self.opened) if lengthened else {}
        parts = {key: _part(change, self.opened.device, weights.get(key)) for key, change in self.changes.items()}
        return Adapter(self.name, self.file.digest, parts)


def open_adapter(opened: OpenedModel, name: str, path: str | Path) -> AdapterForModel:
    file = read_adapter_file(path)
    experts = expert_modules(file)
    apart = experts and opened.checkpoint.dialect == "hf" and not opened.device.native
    _refuse_fixed(file, [*whole_weights(file), *({} if apart else experts)])
    changes = canonical_changes(file, opened.checkpoint, opened.recipe)
    if apart:
        changes |= apply_to_adapter(opened.recipe.rules, expert_changes(file, opened.checkpoint.shapes))
    _refuse_fixed(file, [key for key, one in changes.items() if one.ndim > 2 and one.magnitude is not None])
    return AdapterForModel(name, file, changes, opened)


def formed_bytes(change: LowRank, device: Device) -> int:
    size = packed_bytes if device.native else lambda matrix: FLOAT * math.prod(matrix.shape)
    gain = 0 if change.magnitude is None else FLOAT * math.prod(change.magnitude.shape)
    return size(change.a) + size(change.b) + gain


def with_adapter_bytes(dry: DryRun, opened: OpenedModel, adapters: tuple[tuple[str, Path], ...]) -> tuple[DryRun, int]:
    """What the model takes with these beside it, and how much of that they are."""
    size = sum([open_adapter(opened, name, path).nbytes for name, path in adapters])
    if not size:
        return dry, 0
    kinds = {**dry.weights.kinds, ADAPTERS: size}
    return replace(dry, weights=replace(dry.weights, kinds=kinds)), size


def with_adapters(holdings: Holdings, decoder: DecoderModel, opened: OpenedModel, options: LoadOptions) -> Holdings:
    if decoder.adapted is None:
        return holdings
    budget, before = holdings.budget, holdings.before
    loaded = LoadedAdapters(
        partial(checked_adapter, opened, decoder.adapted.all),
        options.most_adapters,
        lambda: None if budget is None else Headroom(budget, before).room,
    )
    checked = [checked_adapter(opened, decoder.adapted.all, name, path) for name, path in options.adapters]
    for one in checked[: options.most_adapters]:
        loaded.add(one.name, one.form())
    return replace(holdings, adapters=loaded)


def why_apart(decoder: DecoderModel) -> str | None:
    return APART if decoder.adapted is not None and decoder.device.chooser.possible() else None


def checked_adapter(
    opened: OpenedModel, places: Mapping[str, AdaptedPlace], name: str, path: str | Path
) -> AdapterForModel:
    """`places`: the matrices of the loaded model that adapters may change."""
    found = open_adapter(opened, name, path)
    _refuse_fixed(found.file, sorted(found.changes.keys() - places.keys()))
    for key, change in found.changes.items():
        if change.shape != tuple(places[key].weight.shape):
            raise ModelError(
                f"{found.file.path} changes {key} as if it were {change.shape}; this model's is "
                f"{tuple(places[key].weight.shape)}: it was trained for another model."
            )
    return found


def _refuse_fixed(file: AdapterFile, fixed: Sequence[str]) -> None:
    if fixed:
        names = ", ".join(map(shown, fixed[:NAMED])) + (", ..." if len(fixed) > NAMED else "")
        raise ModelError(
            f"{file.path} changes {names}, which cannot change while this model runs: "
            f"fuse it (mlxrun convert --adapter), or train it without them."
        )


def _base_weights(opened: OpenedModel) -> Mapping[str, Weight]:
    plain = opened.checkpoint.read_as(reading_of(opened.checkpoint, opened.device, opened.dtype))
    return read_weights(plain, opened.recipe)


def _part(change: LowRank, device: Device, base: Weight | None) -> AdapterPart:
    form: Callable[[mx.array], Matrix] = pack if device.native else lambda matrix: matrix
    a, b = (mx.contiguous(part if device.native else part.astype(mx.float32)) for part in (change.a, change.b))
    gain = None
    if change.magnitude is not None and base is not None:
        gain = gain_of(change, base)
        mx.eval(gain)
    mx.eval(a, b)
    return AdapterPart(form(a), form(b), change.scale, gain)


def gain_of(change: LowRank, base: Weight) -> mx.array:
    """(out,): by what each row of the sum is multiplied, so that it is as long as its magnitude says."""
    assert change.magnitude is not None
    whole = base.dequantize(mx.float32) if isinstance(base, QuantizedWeight) else base.astype(mx.float32)
    lengths = mx.linalg.norm(whole + change.whole(), axis=-1)
    return change.magnitude.astype(mx.float32) / lengths
