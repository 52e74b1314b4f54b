"""What is done to rows alone as one node of the native stack, where no sequence has pages: of towers and listeners.

None: the kernels do not compute here, or a weight is in another form; it is done operation by operation then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx

from ..ops.device import Device
from ..ops.fast_forms import STACK
from ..ops.native import native
from ..spec import Activation, Decoder, Layer
from .layer import LayerBlock
from .linear import Linear
from .native_parts import Unpacked, packed
from .steps import LayerSteps

Rows = Callable[[mx.array], mx.array]


def feed_of(block: LayerBlock, layer: Layer, dim: int, device: Device) -> Rows | None:
    """x (T, dim) -> x + network(norm(x)) of a layer."""
    alone = replace(layer, mixer=None, mixer_norm=None, mixer_post=None)
    if not device.native or layer.wiring != "serial" or not STACK.serves(alone):
        return None
    steps = LayerSteps(Decoder("rows", dim, 1, (alone,), None, True, 1))
    try:
        steps.add(block, alone, 0)
    except Unpacked:
        return None
    return run_of(steps.stack, device)


def acted_of(linear: Linear, act: Activation, width: int, device: Device) -> Rows | None:
    """x (T, width) -> act(linear(x))."""
    if not device.native:
        return None
    stack = native.Stack(width, 0, "made")
    try:
        stack.project("x", [packed(linear.weight)], [linear.bias], ["rows"])
    except Unpacked:
        return None
    stack.activate("rows", act, None, 0, "made")
    return run_of(stack, device)


def run_of(stack: Any, device: Device) -> Rows:
    def run(x: mx.array) -> mx.array:
        (made,) = stack(x, None, [], [], [], [], device.rounding)
        return made

    return run
