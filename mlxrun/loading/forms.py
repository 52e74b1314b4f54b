"""What a device makes of weights: the layouts that it multiplies by, the type that it computes in, and what is widened
on a CPU."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

import mlx.core as mx

from .. import gpu
from ..families import Recipe
from ..memory.machine import available_bytes
from ..ops import metal
from ..ops.device import Device
from ..ops.quantized import QuantizedWeight, Weight
from ..weights import Checkpoint
from ..weights.gguf import Place
from ..weights.gguf_tensors import FORMS, Reading
from .refused_layouts import hold_refused

# llama.cpp's architectures whose activations stay within float16: they are run so where there is no bfloat16. Those of
# Gemma 2 and 3 and GLM 4 do not (vLLM refuses them in float16), and of others nobody was asked.
HALF = frozenset(("llama", "smollm3", "granite", "qwen2", "qwen3", "qwen3moe", "phi3", "olmo2", "gpt2", "bert"))
# canonical names of plain weights that meet float32 only
WIDE = re.compile(r"\.router\.|\.conv\.|\.(?:select_bias|expert_scale|router_scale|A_log|D|dt_bias|dt\.bias)$")
# of what is free, how much the weights may take when widened to float32
WIDEN_SHARE = 0.7


def reading_of(checkpoint: Checkpoint, device: Device, dtype: mx.Dtype | None = None) -> Reading:
    """What is multiplied by as it lies, of what the types of a GGUF file may become. Only our own kernels know groups
    of 16, on a GPU if they compute right there; in a `dtype` weights are held in MLX's layouts. A GPU copies a float16
    matrix to the rows' type for every product."""
    if not device.gpu:
        return "fine" if packs(device, dtype) else "wide"
    if dtype is not None or checkpoint.dialect != "gguf" or not device.chooser.possible():
        return "mlx"
    kinds = {place.kind for _, place in checkpoint.stored.values() if isinstance(place, Place)}
    fine = (FORMS[kind].fine for kind in kinds if kind in FORMS)
    bits = {form.bits for form in fine if form is not None}
    own = compute_dtype("gguf", str(checkpoint.metadata.get("general.architecture")))
    right = bool(bits) and own is not None and all(metal.computes_groups_of_16(each, own) for each in sorted(bits))
    return "fine" if right else "mlx"


def packs(device: Device, dtype: mx.Dtype | None) -> bool:
    """Whether weights are packed for our own kernels of this processor."""
    return device.native and dtype is None


def plain_forms(
    weights: Mapping[str, Weight], checkpoint: Checkpoint, recipe: Recipe, device: Device, dtype: mx.Dtype | None
) -> tuple[dict[str, Weight], str | None]:
    """What becomes of weights that are not packed, and what a person should know of it."""
    if dtype is not None:
        return {name: cast(weight, dtype) for name, weight in weights.items()}, None
    if not device.gpu:
        return widen_all(weights)
    held = hold_for_gpu(weights, checkpoint.dialect, recipe.decoder.family)
    if gpu.metal() or not gpu.usable():  # Metal multiplies by all of MLX's layouts
        return held, None
    return hold_refused(held, compute_dtype(checkpoint.dialect, recipe.decoder.family, weights))


def compute_dtype(dialect: str, family: str, weights: Mapping[str, Weight] | None = None) -> mx.Dtype | None:
    """In what a GPU computes; None: as it is stored. One float32 among the weights makes float32 of all that it
    touches: MLX then widens the scales of every matrix at every product, or copies a float16 one whole, and keys take
    twice the memory. A GGUF file holds norms and biases in float32, whatever its matrices are; elsewhere scales that
    are products are float32, beside plain weights that say what was meant."""
    if dialect == "gguf":
        return mx.float16 if family in HALF else mx.bfloat16
    sizes: Counter[mx.Dtype] = Counter()
    for name, weight in (weights or {}).items():
        if isinstance(weight, mx.array) and not WIDE.search(name):
            sizes[weight.dtype] += weight.nbytes
    most = max(sizes, key=lambda dtype: sizes[dtype], default=None)
    return most if most in (mx.float16, mx.bfloat16) else None


def hold_for_gpu(weights: Mapping[str, Weight], dialect: str, family: str) -> dict[str, Weight]:
    """As a GPU holds them."""
    dtype = compute_dtype(dialect, family, weights)
    if dtype is None:
        return dict(weights)
    return {
        name: weight if isinstance(weight, mx.array) and WIDE.search(name) else cast(weight, dtype)
        for name, weight in weights.items()
    }


def widen_weight(weight: Weight) -> Weight:
    """In float32, beside native kernels that take the large ones as they are."""
    return weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else cast(weight, mx.float32)


def widen_all(weights: Mapping[str, Weight], free: int | None = None) -> tuple[dict[str, Weight], str | None]:
    """Every weight in float32 if that fits: MLX's CPU backend is slow on, or lacks, anything narrower."""
    floats = 4 * sum(math.prod(weight.shape) for weight in weights.values())
    if floats > WIDEN_SHARE * (available_bytes() if free is None else free):
        plain = {name: w if isinstance(w, QuantizedWeight) else cast(w, mx.float32) for name, w in weights.items()}
        return (
            plain,
            f"{floats / 2**30:.1f} GiB for float32 weights is not free, so the quantized ones run as they are, slowly.",
        )
    return {name: widen_weight(w) for name, w in weights.items()}, None


def cast(weight: Weight, dtype: mx.Dtype) -> Weight:
    if isinstance(weight, QuantizedWeight):
        # fp modes keep their 8-bit scales
        if weight.mode != "affine":
            return weight
        scales = weight.scales.astype(dtype)
        biases = None if weight.biases is None else weight.biases.astype(dtype)
        return QuantizedWeight(weight.packed, scales, biases, weight.mode, weight.bits, weight.group)
    return weight.astype(dtype) if mx.issubdtype(weight.dtype, mx.floating) else weight
