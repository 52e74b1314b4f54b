"""A model in the form in which what is beside its matrices can be trained: the same blocks, no fused nodes.

Its own weights stay as they are. On a processor a matrix is packed twice, as it is multiplied by and turned round for
what flows back; elsewhere MLX's own products have gradients. Knows no data and no objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import mlx.core as mx

from ..families import UnknownFamily
from ..loading.forms import plain_forms, widen_weight
from ..loading.open import OpenedModel
from ..memory.headroom import give_back
from ..nn.decoder import DecoderModel
from ..nn.params import AS_STORED, Forms
from ..ops.adapters import Adapter
from ..ops.choose import Chooser
from ..ops.device import Device
from ..ops.frozen import FrozenMatrix
from ..ops.native import pack, release
from ..ops.quantized import Matrix, QuantizedWeight, Weight
from ..spec import ModelError
from ..weights import read_weights

BACK_BITS, BACK_GROUP = 8, 32  # of the pack that is turned round, unless products are exact
Progress = Callable[[int, int], None]


def quiet(done: int, total: int) -> None:
    """Nobody asks."""


@dataclass(eq=False)
class ReadOnce:
    """A text that is read once, from its beginning: nothing of it is remembered."""

    context: int
    layers: tuple[None, ...]
    adapter: Adapter | None = None
    heard: None = field(default=None, init=False)
    length: int = 0
    store: None = field(default=None, init=False)


def refuse_untrainable(opened: OpenedModel) -> None:
    if isinstance(opened.found, UnknownFamily):
        raise ModelError("Models that run through mlx-lm are not trained here: mlx-lm's own tuner does (mlx_lm.lora).")
    decoder = opened.recipe.decoder
    if decoder.kind != "decoder" or decoder.joined is not None:
        raise ModelError(f"{decoder.family} writes no text by itself, so there is nothing to train here.")


def training_device(device: Device) -> Device:
    return replace(device, native=False, chooser=Chooser("mlx"))


def build_core(opened: OpenedModel, progress: Progress = quiet) -> DecoderModel:
    """Without what sees: texts are read."""
    refuse_untrainable(opened)
    recipe = opened.recipe
    found = read_weights(opened.checkpoint, recipe)
    weights = {name: weight for name, weight in found.items() if not name.startswith("vision.")}
    del found
    forms = AS_STORED
    if opened.device.native:
        forms = _frozen_forms(opened.device, sum(weight.nbytes for weight in weights.values()), progress)
    else:
        weights, _ = plain_forms(weights, opened.checkpoint, recipe, opened.device, opened.dtype)
    device = training_device(opened.device)
    made = DecoderModel(recipe.decoder, weights, device, fold_offsets=not recipe.folded, forms=forms, adaptable=True)
    if opened.device.native:
        release()
    return made


def _frozen_forms(device: Device, total: int, progress: Progress) -> Forms:
    done = 0

    def matrix(weight: Weight) -> Matrix:
        nonlocal done
        done += weight.nbytes
        made: Matrix = frozen(weight, device) if weight.ndim == 2 else widen_weight(weight)
        give_back()
        progress(min(done, total), total)
        return made

    return Forms(matrix=matrix, other=widen_weight)


def frozen(weight: Weight, device: Device) -> FrozenMatrix:
    return FrozenMatrix(pack(weight), pack(turned(weight, exact=device.precision == "exact")), device.rounding)


def turned(weight: Weight, *, exact: bool) -> Weight:
    """(out, in) -> (in, out). Rounded anew unless exact: groups of its codes run along the other axis then."""
    whole = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)
    whole = mx.contiguous(whole.T)
    if exact:
        return whole
    if whole.shape[-1] % BACK_GROUP:
        return whole.astype(mx.float16)
    codes, scales, biases = mx.quantize(whole, group_size=BACK_GROUP, bits=BACK_BITS)
    return QuantizedWeight(codes, scales, biases, "affine", BACK_BITS, BACK_GROUP)
