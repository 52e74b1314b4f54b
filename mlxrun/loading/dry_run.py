"""What a checkpoint will take once it is loaded, told from headers: nothing is read, nothing is computed.

It goes the way of `load_model` with arrays that are never evaluated, so a checkpoint that could not be loaded is
refused here in the same words. The device need not be of this machine: `ops.device.a_mac` is one that may be elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace

import mlx.core as mx

from ..cache.sequence import SequenceCache
from ..core import KeyBits
from ..families import Recipe
from ..memory.weights import Weights, weigh
from ..nn.decoder import DecoderModel
from ..nn.params import AS_STORED, Forms
from ..ops.device import Device
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import Decoder, LatentAttention, ModelError
from ..weights import Checkpoint, outline_weights
from .forms import packs, plain_forms, reading_of
from .from_config import weights_from_config

FLOAT = 4
PANEL, LINE = 16, 64  # rows and bytes that packed weights are rounded up to


@dataclass(frozen=True, slots=True)
class Sized:
    """A weight in a form that is not made."""

    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class DryRun:
    weights: Weights
    width: int  # bytes of a value that is computed
    form: str | None = None  # what loading makes of the weights, where it changes them
    order: Mapping[str, bool] = field(default_factory=dict)  # of packed weights: in the order of use, whether a matrix
    keys: int | None = None  # bytes of a value of an attention's keys, where those lie in pages


def dry_run(checkpoint: Checkpoint, recipe: Recipe, device: Device, dtype: mx.Dtype | None = None) -> DryRun:
    """`dtype`: in which all of it shall be held, where a person says so."""
    checkpoint = checkpoint.read_as(reading_of(checkpoint, device, dtype))
    if packs(device, dtype):
        return _packed(checkpoint, recipe, device)
    stored = outlined(checkpoint, recipe, device)
    formed, _ = plain_forms(stored, checkpoint, recipe, device, dtype)
    decoder = build_blocks(recipe, dict(formed), device)
    return dry_run_of(decoder, formed, before=sum(weight.nbytes for weight in stored.values()))


def outlined(checkpoint: Checkpoint, recipe: Recipe, device: Device, *, centred: bool = False) -> dict[str, Weight]:
    if not checkpoint.files:
        return weights_from_config(checkpoint, recipe, device)
    return outline_weights(checkpoint, recipe, centred=centred)


def dry_run_of(decoder: DecoderModel, weights: Mapping[str, Weight], before: int) -> DryRun:
    """Of blocks that are built, of weights that took `before` bytes as they were stored; nothing is evaluated."""
    wider = sum(weight.nbytes for weight in weights.values()) > before
    return DryRun(weigh(decoder.spec, weights), _width(decoder), "widened to float32" if wider else None)


def _packed(checkpoint: Checkpoint, recipe: Recipe, device: Device) -> DryRun:
    """For the native kernels: matrices packed as they are, all else in float32, which keys then are too.

    Blocks are built of outlines: so what does not belong together is refused before minutes of packing.
    """
    found = outlined(checkpoint, recipe, device, centred=True)
    names = {id(weight): name for name, weight in found.items()}
    sizes = {name: Sized(tuple(w.shape), FLOAT * math.prod(w.shape)) for name, w in found.items()}
    order: dict[str, bool] = {}

    def matrix(weight: Weight) -> Weight:
        name = names[id(weight)]
        sizes[name] = Sized(tuple(weight.shape), packed_bytes(weight))
        order[name] = True
        return weight

    def other(weight: Weight) -> Weight:
        order[names[id(weight)]] = False
        return weight

    forms = Forms(matrix=matrix, other=other)
    build_blocks(recipe, found, device, forms)
    keys = device.kept(mx.float32).size
    return DryRun(weigh(recipe.decoder, sizes), FLOAT, "packed for this processor", order, keys)


def build_blocks(
    recipe: Recipe,
    weights: MutableMapping[str, Weight],
    device: Device,
    forms: Forms = AS_STORED,
    *,
    adaptable: bool = False,
) -> DecoderModel:
    """The decoder and what sees beside it."""
    return DecoderModel(
        recipe.decoder,
        weights,
        device,
        fold_offsets=not recipe.folded,
        forms=forms,
        towers=recipe.towers or recipe.listener,
        adaptable=adaptable,
    )


def with_key_bits(seen: DryRun, decoder: Decoder, bits: KeyBits) -> DryRun:
    """As a person wants keys and values to be kept; ModelError, where they cannot be."""
    if bits == 16 or decoder.kind != "decoder":
        return seen
    wish = f"Keys and values of {bits} bits (--kv-bits, MLXRUN_KV_BITS)"
    if seen.keys is None:
        raise ModelError(f"{wish} are there only where the native kernels run the model on a processor; take 16 here.")
    if any(isinstance(layer.mixer, LatentAttention) for layer in decoder.layers):
        raise ModelError(f"{wish} are not there for {decoder.family}, which remembers latents in their place; take 16.")
    return replace(seen, keys=1)


def packed_bytes(weight: Weight) -> int:
    """Panels of whole rows, one after the other; a little less where affine biases turn out to follow from scales."""
    arrays = [weight.packed, weight.scales] if isinstance(weight, QuantizedWeight) else [weight]
    doubled = isinstance(weight, QuantizedWeight) and weight.biases is not None
    *stacks, rows, _ = weight.shape
    panel = 0
    for index, array in enumerate(arrays):
        row = array.shape[-1] * array.dtype.size * (2 if doubled and index else 1)  # scales and biases together
        panel += -(-PANEL * row // LINE) * LINE
    return math.prod(stacks) * -(-rows // PANEL) * panel


def _width(decoder: DecoderModel) -> int:
    """Of the first thing that a layer remembers of a token; arrays know their type before they have values."""
    sequence = SequenceCache(decoder.spec)
    hidden = decoder(decoder.one_token, [(sequence, 1)])
    held = [memory.arrays()[0] for memory in sequence.layers if memory is not None]
    return max((array.dtype.size for array in held), default=hidden.dtype.size)
