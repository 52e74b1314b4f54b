"""A short convolution between two gates (LFM2): a mixer whose memory is the last few rows, however long the text."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..spec import ShortConv
from .batch import Pass
from .params import Params
from .recurrent import CausalConv, State, run_segments


class ShortConvBlock:
    def __init__(self, spec: ShortConv, dim: int, params: Params) -> None:
        s = self.spec = spec
        self.inp = params.linear("inp", 3 * s.channels, dim, bias=s.bias)
        self.o = params.linear("o", dim, s.channels, bias=s.bias)
        self.conv = CausalConv(s.channels, s.conv, params, bias=s.bias, silu=False)

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        before, after, rows = mx.split(self.inp(x), 3, axis=-1)

        def start() -> State:
            return (self.conv.start(x.dtype),)

        return self.o(after * run_segments(p, memories, (before * rows,), start, self._recur))

    def _recur(self, rows: tuple[mx.array, ...], state: State) -> tuple[mx.array, State]:
        y, window = self.conv(rows[0], state[0])
        return y, (window,)
