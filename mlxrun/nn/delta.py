"""Gated DeltaNet (Qwen3-Next, Qwen3.5, OLMo Hybrid) and Kimi's delta attention: recurrent mixers whose state is
corrected, not only added to.

Decay, step size, normalised keys, the state and the gated norm are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..contracts import LayerMemory
from ..ops.channel_delta import channel_delta
from ..ops.delta import gated_delta
from ..spec import ChannelDelta, GatedDelta
from .batch import Pass
from .params import Params
from .recurrent import CausalConv, State, run_segments

L2_EPS = 1e-6  # under the root of the keys' and queries' squared length


class QueryKeyValue:
    """Queries, keys and values of a row, from one matrix or from three, and the convolution over them."""

    def __init__(self, widths: Sequence[int], dim: int, taps: int, params: Params, *, apart: bool) -> None:
        parts = dict(zip("qkv", widths, strict=True)) if apart else {"qkv": sum(widths)}
        self.linears = [params.linear(part, width, dim) for part, width in parts.items()]
        self.conv = CausalConv(sum(widths), taps, params, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        """x (T, dim) -> (T, widths)."""
        rows = [linear(x) for linear in self.linears]
        return rows[0] if len(rows) == 1 else mx.concatenate(rows, axis=-1)


class GatedDeltaBlock:
    def __init__(self, spec: GatedDelta, dim: int, params: Params) -> None:
        s = self.spec = spec
        self.device = params.device
        self.keys, self.values = s.k_heads * s.k_dim, s.v_heads * s.v_dim
        self.qkv = QueryKeyValue((self.keys, self.keys, self.values), dim, s.conv, params, apart=s.apart)
        self.z = params.linear("z", self.values, dim)
        self.a = params.linear("a", s.v_heads, dim)
        self.b = params.linear("b", s.v_heads, dim)
        self.o = params.linear("o", dim, self.values)
        self.rate = -mx.exp(params.array("A_log", s.v_heads).astype(mx.float32))
        self.dt_bias = params.array("dt_bias", s.v_heads).astype(mx.float32)
        self.norm = params.norm("norm", s.norm, s.v_dim)

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        s = self.spec
        log_decay = self.rate * nn.softplus(self.a(x).astype(mx.float32) + self.dt_bias)  # (T, Hv)
        beta = s.strength * mx.sigmoid(self.b(x).astype(mx.float32))

        def start() -> State:
            return self.qkv.conv.start(x.dtype), mx.zeros((1, s.v_heads, s.v_dim, s.k_dim), mx.float32)

        y = run_segments(p, memories, (self.qkv(x), log_decay, beta), start, self._recur)
        y = self.norm(y.reshape(p.total, s.v_heads, s.v_dim)).reshape(p.total, -1)
        return self.o((y * nn.silu(self.z(x).astype(mx.float32))).astype(x.dtype))

    def _recur(self, rows: tuple[mx.array, ...], state: State) -> tuple[mx.array, State]:
        s = self.spec
        qkv, log_decay, beta = rows
        window, memory = state
        qkv, window = self.qkv.conv(qkv, window)
        batch, length, _ = qkv.shape
        qk, v = mx.split(qkv.astype(mx.float32), [2 * self.keys], axis=-1)
        q, k = mx.split(_unit(qk.reshape(batch, length, 2 * s.k_heads, s.k_dim)), 2, axis=2)
        v = v.reshape(batch, length, s.v_heads, s.v_dim)
        y, memory = gated_delta(q * s.k_dim**-0.5, k, v, log_decay, beta, memory, self.device)
        return y.reshape(batch, length, -1), (window, memory)


class ChannelDeltaBlock:
    def __init__(self, spec: ChannelDelta, dim: int, params: Params) -> None:
        s = self.spec = spec
        width = s.heads * s.dim
        self.qkv = QueryKeyValue((width,) * 3, dim, s.conv, params, apart=True)
        self.decay_in = self.gate_in = None
        if s.rank is not None:
            self.decay_in, self.gate_in = params.linear("decay_in", s.rank, dim), params.linear("gate_in", s.rank, dim)
        self.decay, self.gate = (params.linear(name, width, s.rank or dim) for name in ("decay", "gate"))
        self.b = params.linear("b", s.heads, dim)
        self.o = params.linear("o", dim, width)
        self.rate = mx.exp(params.array("A_log", s.heads).astype(mx.float32))[:, None]
        self.dt_bias = params.array("dt_bias", width).astype(mx.float32)
        self.norm = params.norm("norm", s.norm, s.dim)

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        s = self.spec
        steps = self.decay(x if self.decay_in is None else self.decay_in(x)).astype(mx.float32) + self.dt_bias
        steps = steps.reshape(p.total, s.heads, s.dim)
        log_decay = -self.rate * nn.softplus(steps) if s.floor is None else s.floor * mx.sigmoid(self.rate * steps)
        beta = mx.sigmoid(self.b(x).astype(mx.float32))

        def start() -> State:
            return self.qkv.conv.start(x.dtype), mx.zeros((1, s.heads, s.dim, s.dim), mx.float32)

        y = run_segments(p, memories, (self.qkv(x), log_decay, beta), start, self._recur)
        y = self.norm(y.reshape(p.total, s.heads, s.dim)).reshape(p.total, -1)
        gate = self.gate(x if self.gate_in is None else self.gate_in(x))
        return self.o((y * mx.sigmoid(gate.astype(mx.float32))).astype(x.dtype))

    def _recur(self, rows: tuple[mx.array, ...], state: State) -> tuple[mx.array, State]:
        s = self.spec
        qkv, log_decay, beta = rows
        window, memory = state
        qkv, window = self.qkv.conv(qkv, window)
        batch, length, _ = qkv.shape
        q, k, v = mx.split(qkv.astype(mx.float32).reshape(batch, length, 3 * s.heads, s.dim), 3, axis=2)
        y, memory = channel_delta(_unit(q) * s.dim**-0.5, _unit(k), v, log_decay, beta, memory)
        return y.reshape(batch, length, -1), (window, memory)


def _unit(x: mx.array) -> mx.array:
    """Rows of length one. rms_norm adds its eps to the mean of squares, the reference to their sum."""
    dim = x.shape[-1]
    return mx.fast.rms_norm(x, None, L2_EPS / dim) * dim**-0.5
