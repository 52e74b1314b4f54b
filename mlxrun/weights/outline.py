"""A checkpoint's tensors as shapes and types without their bytes: enough to plan with, free to make.

Of a GGUF type whose scales are half floats they are taken as such; a tensor with scales near the limit of those
gets float32 ones when it is read, which only its values tell.
"""

from __future__ import annotations

import mlx.core as mx

from ..ops.quantized import QuantizedWeight, Weight
from .checkpoint import Checkpoint
from .gguf import Place
from .gguf_tensors import PLAIN, Reading, form_of


def outline(checkpoint: Checkpoint, *, centred: bool = False) -> dict[str, Weight]:
    """As `checkpoint.tensors()`, with arrays that must not be evaluated. `centred`: without the biases of GGUF types
    that have none of their own, as the native kernels hold them."""
    if checkpoint.dialect != "gguf":
        return checkpoint.tensors()  # lazy already
    places = {name: place for name, (_, place) in checkpoint.stored.items() if isinstance(place, Place)}
    return {name: _outlined(p.kind, p.shape, centred, checkpoint.reading) for name, p in places.items()}


def _outlined(kind: str, shape: tuple[int, ...], centred: bool, reading: Reading) -> Weight:
    if kind in PLAIN:
        return mx.zeros(shape, PLAIN[kind][1])
    form = form_of(kind, reading)
    if reading == "wide" and form.wide is not None:
        return mx.zeros(shape, mx.float16)
    *rows, width = shape
    packed = mx.zeros((*rows, width * form.bits // 32), mx.uint32)
    if form.mode != "affine":
        return QuantizedWeight(
            packed, mx.zeros((*rows, width // form.group), mx.uint8), None, form.mode, form.bits, form.group
        )
    scales = mx.zeros((*rows, width // form.group), mx.float16 if form.narrow else mx.float32)
    biases = None if centred and form.middle is not None else scales
    return QuantizedWeight(packed, scales, biases, "affine", form.bits, form.group)
