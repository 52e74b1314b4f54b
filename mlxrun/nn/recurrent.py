"""What recurrent mixers share: running a recurrence over a ragged batch, and the convolution before it.

Sequences with equally many new rows go through together, so a batch of single steps is one call, and
no sequence ever sees a row that is not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..ops.conv import causal_conv
from .batch import Pass, Segment
from .params import Params

State = tuple[mx.array, ...]  # each (B, ...)
# rows, each (B, L, ...), and the states before them -> rows (B, L, D) and the states after them
Recurrence = Callable[[tuple[mx.array, ...], State], tuple[mx.array, State]]


def run_segments(
    p: Pass,
    memories: Sequence[LayerMemory | None],
    rows: tuple[mx.array, ...],
    start: Callable[[], State],
    recur: Recurrence,
) -> mx.array:
    """rows, each (T, ...) -> (T, D). `start` gives the state of a new sequence, B = 1."""
    done: dict[int, mx.array] = {}  # segment's first row -> its output (L, D)
    for count in dict.fromkeys(s.count for s in p.segments):
        alike = [(s, m) for s, m in zip(p.segments, memories, strict=True) if s.count == count]
        states = [_state(memory) or start() for _, memory in alike]
        before = states[0]
        if len(alike) > 1:
            before = tuple(mx.concatenate(list(same)) for same in zip(*states, strict=True))
        y, after = recur(tuple(_together(part, [s for s, _ in alike]) for part in rows), before)
        for i, (segment, memory) in enumerate(alike):
            done[segment.start] = y[i]
            if memory is not None:
                memory.write(segment.offset + count, *(part[i : i + 1] for part in after))
    outputs = [done[s.start] for s in p.segments]
    return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs)


def _state(memory: LayerMemory | None) -> State | None:
    return None if memory is None else memory.read()


def _together(part: mx.array, segments: Sequence[Segment]) -> mx.array:
    """Rows of some sequences, equally many each: (T, ...) -> (B, L, ...)."""
    if len(segments) * segments[0].count == part.shape[0]:
        return part.reshape(len(segments), segments[0].count, *part.shape[1:])
    return mx.stack([part[s.rows] for s in segments])


class CausalConv:
    """The depthwise convolution's weights, as the op wants them."""

    __slots__ = ("bias", "silu", "taps")

    def __init__(self, channels: int, taps: int, params: Params, *, bias: bool, silu: bool = True) -> None:
        self.silu = silu
        weight = params.array("conv.weight", channels, taps)
        self.taps = mx.contiguous(weight.T.astype(mx.float32))  # (K, C)
        self.bias = params.array("conv.bias", channels).astype(mx.float32) if bias else None

    def start(self, dtype: mx.Dtype) -> mx.array:
        taps, channels = self.taps.shape
        return mx.zeros((1, taps - 1, channels), dtype)

    def __call__(self, x: mx.array, window: mx.array) -> tuple[mx.array, mx.array]:
        return causal_conv(x, self.taps, self.bias, window, silu=self.silu)
