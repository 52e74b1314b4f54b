"""Mamba-2 (Mamba-2, Nemotron-H, Granite 4): heads with one decay each, then a gated grouped norm.

Step size, decay, D, the state and the norm are float32. The step is clamped in every row, prefill and
decode alike; the authors' single-step kernel leaves the clamp out.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..contracts import LayerMemory
from ..ops.ssm import ssm
from ..spec import Mamba2
from .batch import Pass
from .params import Params
from .recurrent import CausalConv, State, run_segments


class Mamba2Block:
    def __init__(self, spec: Mamba2, dim: int, params: Params) -> None:
        s = self.spec = spec
        self.inner = s.heads * s.head_dim
        channels = self.inner + 2 * s.groups * s.state
        self.inp = params.linear("inp", self.inner + channels + s.heads, dim, bias=s.bias)
        self.o = params.linear("o", dim, self.inner, bias=s.bias if s.out_bias is None else s.out_bias)
        self.conv = CausalConv(channels, s.conv, params, bias=s.conv_bias)
        self.rate = -mx.exp(params.array("A_log", s.heads).astype(mx.float32))
        self.skip = params.array("D", s.heads).astype(mx.float32)[:, None]
        self.dt_bias = params.array("dt_bias", s.heads).astype(mx.float32)
        self.norm = None if s.norm is None else params.array("norm.weight", self.inner).astype(mx.float32)
        self.scales = None
        if s.scales is not None:
            widths = (self.inner, self.inner, s.groups * s.state, s.groups * s.state, s.heads)
            self.scales = mx.concatenate([mx.full(width, by) for width, by in zip(widths, s.scales, strict=True)])

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        s = self.spec
        projected = self.inp(x)
        if self.scales is not None:
            projected = (projected * self.scales).astype(x.dtype)
        gate, u, dt = mx.split(projected, [self.inner, self.inp.weight.shape[0] - s.heads], axis=-1)
        dt = mx.clip(nn.softplus(dt.astype(mx.float32) + self.dt_bias), s.dt_min, s.dt_max)  # (T, H)

        def start() -> State:
            return self.conv.start(x.dtype), mx.zeros((1, s.heads, s.head_dim, s.state), mx.float32)

        y = run_segments(p, memories, (u, dt), start, self._recur)
        return self.o(self._gated(y, nn.silu(gate.astype(mx.float32))).astype(x.dtype))

    def _recur(self, rows: tuple[mx.array, ...], state: State) -> tuple[mx.array, State]:
        s = self.spec
        inputs, dt = rows
        window, memory = state
        inputs, window = self.conv(inputs, window)
        batch, length, _ = inputs.shape
        u, b, c = mx.split(inputs.astype(mx.float32), [self.inner, self.inner + s.groups * s.state], axis=-1)
        u = u.reshape(batch, length, s.heads, s.head_dim)
        b, c = (part.reshape(batch, length, s.groups, s.state) for part in (b, c))
        y, memory = ssm(u * dt[..., None], dt * self.rate, b, c, memory)
        return (y + self.skip * u).reshape(batch, length, -1), (window, memory)

    def _gated(self, y: mx.array, gate: mx.array) -> mx.array:
        if self.spec.norm_first:
            return self._normed(y) * gate
        return self._normed(y * gate)

    def _normed(self, y: mx.array) -> mx.array:
        if self.norm is None or self.spec.norm is None:
            return y
        groups = y.reshape(y.shape[0], self.spec.norm_groups, -1)
        return mx.fast.rms_norm(groups, None, self.spec.norm.eps).reshape(y.shape) * self.norm
