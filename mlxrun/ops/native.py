"""Weights in the form that the native CPU kernels want, and the library itself; whether it is used, a device says.

A packed weight takes the place of what it was made from: it holds its own copy, as large as the
original. It can be multiplied by and looked up; nothing else.
"""

from __future__ import annotations

from ..cpu_kernels import available, native
from ..cpu_kernels import status as status  # for whoever tells what is in use
from .device import Device
from .quantized import Packed, QuantizedWeight, Weight

SLOW = "Without the native CPU kernels this runs many times slower"


def pack(weight: Weight) -> Packed:
    """A matrix (out, in), or a stack of them (E, out, in)."""
    if isinstance(weight, QuantizedWeight):
        return native.pack_quantized(
            weight.packed, weight.scales, weight.biases, weight.mode, weight.bits, weight.group
        )
    return native.pack_plain(weight)


def why_slow(device: Device) -> str | None:
    """A sentence, where a processor computes and has no kernels of ours."""
    if device.gpu or device.native:
        return None
    reason = status().reason or "it was opened to run without them"
    return f"{SLOW}: {reason}."


def release() -> None:
    """Give back the memory that kernels worked in for this thread."""
    if available:
        native.release_scratch()
