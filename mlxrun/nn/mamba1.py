"""Mamba-1 (Mamba, Falcon-Mamba, Jamba): a selective scan between a convolution and a gate.

Step size, decay, D and the state are float32. The reference adds the step's bias in float32, so the
projection is taken without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..contracts import LayerMemory
from ..ops.selective import selective_scan
from ..spec import Mamba1
from .batch import Pass
from .linear import Linear
from .params import Params
from .recurrent import CausalConv, State, run_segments


class Mamba1Block:
    def __init__(self, spec: Mamba1, dim: int, params: Params) -> None:
        s = self.spec = spec
        self.inp = params.linear("inp", 2 * s.inner, dim, bias=s.bias)
        self.x = params.linear("x", s.dt_rank + 2 * s.state, s.inner)
        self.dt = Linear(params.matrix("dt.weight", s.inner, s.dt_rank), params.device)
        self.dt_bias = params.array("dt.bias", s.inner).astype(mx.float32)
        self.o = params.linear("o", dim, s.inner, bias=s.bias)
        self.conv = CausalConv(s.inner, s.conv, params, bias=s.conv_bias)
        self.a = -mx.exp(params.array("A_log", s.inner, s.state).astype(mx.float32))
        self.skip = params.array("D", s.inner).astype(mx.float32)
        self.norms = None
        if s.norm is not None:
            sizes = {"dt_norm": s.dt_rank, "b_norm": s.state, "c_norm": s.state}
            self.norms = [params.norm(name, s.norm, size) for name, size in sizes.items()]

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        s = self.spec
        u, gate = mx.split(self.inp(x), 2, axis=-1)

        def start() -> State:
            return self.conv.start(x.dtype), mx.zeros((1, s.inner, s.state), mx.float32)

        y = run_segments(p, memories, (u,), start, self._recur)
        return self.o((y * nn.silu(gate.astype(mx.float32))).astype(x.dtype))

    def _recur(self, rows: tuple[mx.array, ...], state: State) -> tuple[mx.array, State]:
        s = self.spec
        window, memory = state
        u, window = self.conv(rows[0], window)
        parts = list(mx.split(self.x(u), [s.dt_rank, s.dt_rank + s.state], axis=-1))
        if self.norms is not None:
            parts = [norm(part) for norm, part in zip(self.norms, parts, strict=True)]
        dt = nn.softplus(self.dt(parts[0]).astype(mx.float32) + self.dt_bias)
        u, b, c = (part.astype(mx.float32) for part in (u, parts[1], parts[2]))
        y, memory = selective_scan(u, dt, self.a, b, c, memory)
        return y + self.skip * u, (window, memory)
