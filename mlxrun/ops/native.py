"""Whether the native CPU kernels are used here, and weights in the form they want.

A packed weight takes the place of what it was made from: it holds its own copy, as large as the
original. It can be multiplied by and looked up; nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

from ..cpu_kernels import available, native
from ..cpu_kernels import status as status  # for whoever tells what is in use
from .quantized import Packed, QuantizedWeight, Weight

# the GPU does better where there is one
NATIVE = available and not mx.metal.is_available()


def pack(weight: Weight) -> Packed:
    """A matrix (out, in), or a stack of them (E, out, in)."""
    if isinstance(weight, QuantizedWeight):
        return native.pack_quantized(
            weight.packed, weight.scales, weight.biases, weight.mode, weight.bits, weight.group
        )
    return native.pack_plain(weight)


def kept(dtype: mx.Dtype) -> mx.Dtype:
    """How keys and values are remembered: half as wide as float32, except where products are exact."""
    return mx.float16 if NATIVE and dtype == mx.float32 and native.precision() == "fast" else dtype


def release() -> None:
    """Give back the memory that kernels worked in for this thread."""
    if NATIVE:
        native.release_scratch()


@contextmanager
def exactly() -> Iterator[None]:
    """Products made meanwhile, by whatever thread, round only their result; without native kernels they always do."""
    if not available:
        yield
        return
    before = native.precision()
    native.set_precision("exact")
    try:
        yield
    finally:
        native.set_precision("exact" if before == "exact" else "fast")
