"""A checkpoint's tensors as shapes and types without their bytes: enough to plan with, free to make.

Of a GGUF file the scales are taken as half floats; a tensor with scales near the limit of those gets float32 ones
when it is read, which only its values tell.
"""

from __future__ import annotations

import mlx.core as mx

from ..ops.quantized import QuantizedWeight, Weight
from .checkpoint import Checkpoint
from .gguf import read_gguf
from .gguf_tensors import GROUP, OFFSET, PLAIN

BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}


def outline(checkpoint: Checkpoint, *, centred: bool = False) -> dict[str, Weight]:
    """As `checkpoint.tensors()`, with arrays that must not be evaluated. `centred`: without the biases of GGUF types
    that have none of their own, as the native kernels hold them."""
    if checkpoint.dialect != "gguf":
        return checkpoint.tensors()  # lazy already
    places = read_gguf(checkpoint.path).tensors
    return {name: _outlined(place.kind, place.shape, centred) for name, place in places.items()}


def _outlined(kind: str, shape: tuple[int, ...], centred: bool) -> Weight:
    if kind in PLAIN:
        return mx.zeros(shape, PLAIN[kind][1])
    *rows, width = shape
    packed = mx.zeros((*rows, width * BITS[kind] // 32), mx.uint32)
    scales = mx.zeros((*rows, width // GROUP), mx.float16)
    biases = None if centred and kind in OFFSET else scales
    return QuantizedWeight(packed, scales, biases, "affine", BITS[kind], GROUP)
