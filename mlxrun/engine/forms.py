"""What a device makes of weights: the layouts that it multiplies by, and what is widened on a CPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from ..memory.machine import available_bytes
from ..ops import metal
from ..ops.choose import chooser
from ..ops.native import NATIVE
from ..ops.quantized import QuantizedWeight, Weight
from ..weights.gguf import read_gguf
from ..weights.gguf_tensors import FORMS, Reading

# of what is free, how much the weights may take when widened to float32
WIDEN_SHARE = 0.7


def reading(path: Path, dtype: mx.Dtype | None = None) -> Reading:
    """What is multiplied by as it lies, of what the types of a GGUF file may become. Only our own kernels know groups
    of 16, on a GPU if they compute right there; in a `dtype` weights are held in MLX's layouts. A GPU copies a float16
    matrix to the rows' type for every product."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return "fine" if NATIVE and dtype is None else "wide"
    if dtype is not None or path.suffix.lower() != ".gguf" or not path.is_file() or not chooser.possible():
        return "mlx"
    forms = {FORMS[place.kind] for place in read_gguf(path).tensors.values() if place.kind in FORMS}
    bits = {form.fine.bits for form in forms if form.fine is not None}
    return "fine" if bits and all(metal.computes_groups_of_16(each) for each in sorted(bits)) else "mlx"


def widened(weight: Weight) -> Weight:
    """In float32, beside native kernels that take the large ones as they are."""
    return weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else cast(weight, mx.float32)


def widen(weights: Mapping[str, Weight], free: int | None = None) -> tuple[dict[str, Weight], str | None]:
    """Every weight in float32 if that fits: MLX's CPU backend is slow on, or lacks, anything narrower."""
    floats = 4 * sum(math.prod(weight.shape) for weight in weights.values())
    if floats > WIDEN_SHARE * (available_bytes() if free is None else free):
        plain = {name: w if isinstance(w, QuantizedWeight) else cast(w, mx.float32) for name, w in weights.items()}
        return (
            plain,
            f"{floats / 2**30:.1f} GiB for float32 weights is not free, so the quantized ones run as they are, slowly.",
        )
    return {name: widened(w) for name, w in weights.items()}, None


def cast(weight: Weight, dtype: mx.Dtype) -> Weight:
    if isinstance(weight, QuantizedWeight):
        # fp modes keep their 8-bit scales
        if weight.mode != "affine":
            return weight
        scales = weight.scales.astype(dtype)
        biases = None if weight.biases is None else weight.biases.astype(dtype)
        return QuantizedWeight(weight.packed, scales, biases, weight.mode, weight.bits, weight.group)
    return weight.astype(dtype) if mx.issubdtype(weight.dtype, mx.floating) else weight
