"""AltUp (Gemma 3n): several streams of rows, of which a layer computes one and corrects the others by it.

Streams are (S, T, dim). Coefficients come from a row of the active stream through a small router.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..spec import AltUp, Layer, PerLayerInput
from .batch import Pass
from .layer import LayerBlock
from .params import Params

SMALLEST = 1e-5  # of a stream's mean square, before it is brought to another's


class Streams:
    """One row becomes several, of one size; after all layers they become one again."""

    def __init__(self, spec: AltUp, dim: int, params: Params) -> None:
        others = range(1, spec.streams)
        self.spread_by = [params.linear(f"spread.{i}", dim, dim) for i in others]
        self.merge_by = [params.linear(f"merge.{i}", dim, dim) for i in others]

    def spread(self, x: mx.array) -> mx.array:
        """(T, dim) -> (S, T, dim)."""
        return mx.stack([x, *(_sized_as(x, linear(x)) for linear in self.spread_by)])

    def merge(self, x: mx.array) -> mx.array:
        """(S, T, dim) -> (T, dim)."""
        others = (_sized_as(x[0], linear(x[i])) for i, linear in enumerate(self.merge_by, 1))
        return mx.stack([x[0], *others]).mean(axis=0)


def _sized_as(x: mx.array, y: mx.array) -> mx.array:
    """y with the mean square of x, row by row."""
    size, own = (mx.square(t).mean(axis=-1, keepdims=True) for t in (x, y))
    return y * mx.sqrt(size) / mx.sqrt(mx.maximum(own, SMALLEST))


class AltUpLayerBlock(LayerBlock):
    def __init__(self, spec: Layer, altup: AltUp, dim: int, per_layer: PerLayerInput | None, params: Params) -> None:
        super().__init__(spec, dim, per_layer, params)
        self.active, self.streams, self.dim = altup.active, altup.streams, dim
        inside = params.scope("altup")
        self.router = inside.linear("router", altup.streams, dim)
        self.router_norm = inside.norm("norm", altup.norm, dim)
        self.foresee = inside.linear("foresee", altup.streams**2, altup.streams)
        self.correct = inside.linear("correct", altup.streams, altup.streams)
        self.scale = inside.array("scale", dim) if altup.scaled else None
        beside = params.scope("laurel")
        self.down, self.up = beside.linear("down", altup.laurel, dim), beside.linear("up", dim, altup.laurel)
        self.laurel_norm = beside.norm("norm", altup.norm, dim)

    def __call__(
        self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None], extra: mx.array | None = None
    ) -> mx.array:
        """x (S, T, dim) -> (S, T, dim)."""
        foreseen = self._foreseen(x)
        y = self._active(foreseen[self.active], p, memories)
        strengths = self.correct(self._routed(y)) + 1  # (T, S)
        x = foreseen + (y - foreseen[self.active]) * strengths.T[..., None]
        if self.extra is None or extra is None:
            return x
        out = x[self.active] if self.scale is None else x[self.active] * self.scale
        return mx.concatenate([x[:1], x[1:] + self.extra.made(out, extra)])

    def _active(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        assert self.mixer is not None
        assert self.mixer_norm is not None
        h = self.mixer_norm(x)
        beside = h + self.laurel_norm(self.up(self.down(h)))
        return self.feed((self.after_mixer(x, self.mixer(h, p, memories)) + beside) * 2**-0.5)

    def _foreseen(self, x: mx.array) -> mx.array:
        weights = self.foresee(self._routed(x[self.active])).reshape(-1, self.streams, self.streams)
        mixed = weights @ x.swapaxes(0, 1)  # (T, S, dim): stream i is the sum of weights[i, j] times stream j
        return x + mixed.swapaxes(0, 1)

    def _routed(self, x: mx.array) -> mx.array:  # (T, dim) -> (T, S)
        routed = self.router(self.router_norm(x) * (1 / self.dim))
        return mx.tanh(routed.astype(mx.float32)).astype(x.dtype)
