"""An adapter for a model that is loaded: its matrices in the form that this device multiplies by.

All or nothing: what it changes must be there, of that shape, and in a place that may change while the model runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from ..adapters.canonical import canonical_changes
from ..adapters.files import read_adapter_file
from ..nn.decoder import DecoderModel
from ..nn.linear import AdaptedLinear
from ..ops.adapters import Adapter, AdapterPart
from ..ops.device import Device
from ..ops.native import pack
from ..ops.quantized import Matrix, QuantizedWeight, Weight
from ..spec import ModelError, shown
from ..weights import read_weights
from ..weights.lowrank import LowRank
from .forms import reading_of
from .model import Holdings
from .open import OpenedModel
from .options import LoadOptions

APART = "Adapters may change its layers, so our Metal kernels that join their work are not used: more launches a token."
NAMED = 3  # weights that an error lists


def with_adapters(holdings: Holdings, decoder: DecoderModel, opened: OpenedModel, options: LoadOptions) -> Holdings:
    if decoder.adapted is None:
        return holdings
    places = decoder.adapted.places
    adapters = {name: load_adapter(opened, places, name, path) for name, path in options.adapters}
    own = sum(adapter.nbytes for adapter in adapters.values())
    return replace(holdings, adapters=adapters, used=replace(holdings.used, own=holdings.used.own + own))


def why_apart(decoder: DecoderModel) -> str | None:
    return APART if decoder.adapted is not None and decoder.device.chooser.possible() else None


def load_adapter(opened: OpenedModel, places: Mapping[str, AdaptedLinear], name: str, path: str | Path) -> Adapter:
    """`places`: the matrices of the loaded model that adapters may change."""
    file = read_adapter_file(path)
    changes = canonical_changes(file, opened.checkpoint, opened.recipe)
    fixed = sorted(changes.keys() - places.keys())
    if fixed:
        names = ", ".join(map(shown, fixed[:NAMED])) + (", ..." if len(fixed) > NAMED else "")
        raise ModelError(
            f"{file.path} changes {names}, which cannot change while this model runs: "
            f"merge it where it was trained, or train it without them."
        )
    for key, change in changes.items():
        if change.shape != tuple(places[key].weight.shape):
            raise ModelError(
                f"{file.path} changes {key} as if it were {change.shape}; this model's is "
                f"{tuple(places[key].weight.shape)}: it was trained for another model."
            )
    weights = _base_weights(opened) if any(change.magnitude is not None for change in changes.values()) else {}
    parts = {key: _part(change, opened.device, weights.get(key)) for key, change in changes.items()}
    return Adapter(name, file.digest, parts)


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
