"""A listener: a window of sound -> the rows that a decoder's layers look at.

Two convolutions over frames, the second of which takes every other one, then layers that see both ways. It reads a
spec and knows no family, no text and no file.
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx

from ..ops.activations import activation
from ..spec_sound import Listener
from .batch import Pass
from .layer import LayerBlock
from .params import Params
from .rows_stack import acted_of, feed_of

TAPS = 3  # of both convolutions


class ListenerModel:
    def __init__(self, spec: Listener, params: Params) -> None:
        self.spec = spec
        first = params.linear("conv1", spec.dim, TAPS * spec.sound.mels, bias=True)
        second = params.linear("conv2", spec.dim, TAPS * spec.dim, bias=True)
        act = activation(spec.act)
        self.begin = acted_of(first, spec.act, TAPS * spec.sound.mels, params.device) or (lambda x: act(first(x)))
        self.halve = acted_of(second, spec.act, TAPS * spec.dim, params.device) or (lambda x: act(second(x)))
        self.places = params.array("positions.weight", spec.rows, spec.dim)
        self.layers = [
            LayerBlock(layer, spec.dim, None, params.scope(f"layers.{i}")) for i, layer in enumerate(spec.layers)
        ]
        for layer, block in zip(spec.layers, self.layers, strict=True):
            block.feed = feed_of(block, layer, spec.dim, params.device) or block.feed
        self.norm = params.norm("norm", spec.norm, spec.dim)

    def encode(self, frames: mx.array) -> Iterator[mx.array]:
        """(frames of a window, mels): the rows after each layer, none of them evaluated; last (rows, dim)."""
        x = self.halve(every_other(self.begin(neighbours(frames))))
        yield x
        x = x + self.places
        p = Pass([(self.spec.rows, 0, self.spec.rows)])
        for layer in self.layers:
            x = layer(x, p, [None])
            yield x
        yield self.norm(x)


def neighbours(x: mx.array) -> mx.array:
    """(n, width) -> (n, TAPS * width): each row between the one before and the one behind it; nothing lies outside."""
    padded = mx.pad(x, [(1, 1), (0, 0)])
    return mx.concatenate([padded[:-2], x, padded[2:]], axis=1)


def every_other(x: mx.array) -> mx.array:
    """(n, width) -> (n / 2, TAPS * width): the same for rows 0, 2, 4 and so on."""
    before = mx.pad(x[1::2], [(1, 0), (0, 0)])
    return mx.concatenate([before[:-1], x[0::2], x[1::2]], axis=1)
