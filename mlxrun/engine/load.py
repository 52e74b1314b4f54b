"""A checkpoint on disk -> a model that runs: headers, recipe, weights, blocks. All of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from ..families import Recipe, UnknownFamily, resolve
from ..families.config import Dialect
from ..families.gguf import resolve_gguf
from ..memory.machine import available_bytes
from ..nn.decoder import DecoderModel
from ..nn.params import Forms
from ..ops.native import NATIVE, pack
from ..ops.quantized import QuantizedWeight, Weight
from ..weights import Checkpoint, open_checkpoint, read_weights
from .fallback import FallbackModel, load_fallback
from .model import Model

# of what is free, how much the weights may take when widened to float32
WIDEN_SHARE = 0.7


def load_model(
    path: str | Path,
    *,
    dtype: mx.Dtype | None = None,
    dialect: Dialect | None = None,
    waive: frozenset[str] = frozenset(),
) -> Model | FallbackModel:
    """`dtype` None: as stored where the device computes it well, float32 on a CPU."""
    checkpoint = open_checkpoint(Path(path), dialect=dialect)
    try:
        recipe = recipe_of(checkpoint, waive)
    except UnknownFamily as unknown:
        if checkpoint.dialect == "gguf":
            raise
        return load_fallback(Path(path), checkpoint.config, unknown, dtype)
    weights = read_weights(checkpoint, recipe)
    forms = Forms()
    notes = [f"{recipe.left_out} of this checkpoint is left out."] if recipe.left_out else []
    if dtype is not None:
        weights = {name: _cast(weight, dtype) for name, weight in weights.items()}
    elif NATIVE:
        forms = Forms(matrix=pack, other=widened)
    elif mx.default_device().type == mx.DeviceType.cpu:
        weights, note = widen(weights)
        notes += [note] if note else []
    return Model(DecoderModel(recipe.decoder, weights, fold_offsets=not recipe.folded, forms=forms), tuple(notes))


def recipe_of(checkpoint: Checkpoint, waive: frozenset[str] = frozenset()) -> Recipe:
    if checkpoint.dialect == "gguf":
        return resolve_gguf(checkpoint.metadata, checkpoint.shapes, checkpoint.rope_factors, waive)
    return resolve(checkpoint.config, checkpoint.dialect, waive)


def widened(weight: Weight) -> Weight:
    """In float32, beside native kernels that take the large ones as they are."""
    return weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else _cast(weight, mx.float32)


def widen(weights: Mapping[str, Weight], free: int | None = None) -> tuple[dict[str, Weight], str | None]:
    """Every weight in float32 if that fits: MLX's CPU backend is slow on, or lacks, anything narrower."""
    floats = 4 * sum(_elements(weight) for weight in weights.values())
    if floats > WIDEN_SHARE * (available_bytes() if free is None else free):
        plain = {name: w if isinstance(w, QuantizedWeight) else _cast(w, mx.float32) for name, w in weights.items()}
        return (
            plain,
            f"{floats / 2**30:.1f} GiB for float32 weights is not free, so the quantized ones run as they are, slowly.",
        )
    return {
        name: w.dequantize(mx.float32) if isinstance(w, QuantizedWeight) else _cast(w, mx.float32)
        for name, w in weights.items()
    }, None


def _elements(weight: Weight) -> int:
    count = 1
    for extent in weight.shape:
        count *= extent
    return count


def _cast(weight: Weight, dtype: mx.Dtype) -> Weight:
    if isinstance(weight, QuantizedWeight):
        # fp modes keep their 8-bit scales
        if weight.mode != "affine":
            return weight
        scales = weight.scales.astype(dtype)
        biases = None if weight.biases is None else weight.biases.astype(dtype)
        return QuantizedWeight(weight.packed, scales, biases, weight.mode, weight.bits, weight.group)
    return weight.astype(dtype) if mx.issubdtype(weight.dtype, mx.floating) else weight
