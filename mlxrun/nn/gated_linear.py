"""RG-LRU (Griffin, Recurrent Gemma): a linear recurrence whose decay and input are gated by small matrices a head.

Gates, decays and the state are float32. What comes in is made smaller by as much as the state decays, so that its size
stays; a sequence's first row meets no state and is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..contracts import LayerMemory
from ..ops.activations import glu
from ..ops.linear_scan import linear_scan
from ..ops.per_head import per_head
from ..spec import GatedLinear
from .batch import Pass
from .params import Params
from .recurrent import CausalConv, State, run_segments

STRENGTH = 8.0  # of the decay: log a = -8 sigmoid(gate) softplus(decay)


class GatedLinearBlock:
    def __init__(self, spec: GatedLinear, dim: int, params: Params) -> None:
        s = self.spec = spec
        self.device = params.device
        self.x = params.linear("x", s.width, dim, bias=True)
        self.gate = params.linear("gate", s.width, dim, bias=True)
        self.o = params.linear("o", dim, s.width, bias=True)
        self.conv = CausalConv(s.width, s.conv, params, bias=True, silu=False)
        each = s.width // s.heads
        self.gates = [
            (params.weight(f"{name}.weight", s.heads, each, each), params.array(f"{name}.bias", s.width))
            for name in ("input_gate", "decay_gate")
        ]
        self.rate = -STRENGTH * nn.softplus(params.array("decay", s.width).astype(mx.float32))
        self.glu = glu(s.act)

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""

        def start() -> State:
            return self.conv.start(x.dtype), mx.zeros((1, self.spec.width), mx.float32)

        y = run_segments(p, memories, (self.x(x), p.positions), start, self._recur)
        return self.o(self.glu(self.gate(x), y.astype(x.dtype)))

    def _recur(self, rows: tuple[mx.array, ...], state: State) -> tuple[mx.array, State]:
        x, positions = rows
        window, memory = state
        x, window = self.conv(x, window)
        into, decay = (mx.sigmoid(gate.astype(mx.float32)) for gate in self._gates(x))
        log_decay = self.rate * decay
        kept = mx.where(mx.expand_dims(positions, -1) == 0, 1.0, mx.sqrt(1 - mx.exp(2 * log_decay)))
        y, memory = linear_scan(x.astype(mx.float32) * into * kept, log_decay, memory)
        return y, (window, memory)

    def _gates(self, x: mx.array) -> list[mx.array]:
        """x (B, L, width) -> what goes into the sigmoid of each gate, of the same shape."""
        heads = x.reshape(1, -1, self.spec.heads, x.shape[-1] // self.spec.heads).swapaxes(1, 2)  # (1, H, B L, each)
        made = (per_head(heads, weight, self.device, as_it_lies=True) for weight, _ in self.gates)
        return [y.swapaxes(1, 2).reshape(x.shape) + bias for y, (_, bias) in zip(made, self.gates, strict=True)]
