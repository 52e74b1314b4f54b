"""All layers of a plain decoder as one node, where every sequence of a pass has one new row.

For a small model, building and walking the graph of a step costs as much as the arithmetic. Keys and values are
written where they lie: a memory lends only what nobody else sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..contracts import SequenceMemory
from ..ops import fused
from ..ops.device import Device
from ..ops.fast_forms import STACK
from ..ops.span import Writing
from ..spec import Decoder, Rope
from .attention import AttentionBlock
from .batch import Pass
from .layer import LayerBlock
from .rope import Rotary


class LayerStack:
    __slots__ = ("_count", "_layers", "_rotary")

    def __init__(self, layers: fused.FusedStack, count: int, rotary: Rotary | None) -> None:
        self._layers, self._count, self._rotary = layers, count, rotary

    @classmethod
    def of(cls, spec: Decoder, blocks: Sequence[LayerBlock], device: Device) -> LayerStack | None:
        """None: native kernels do not compute, a layer does more than is usual, its weights are in another form, or
        they turn heads differently."""
        if not device.native or not STACK.serves(spec):
            return None
        layers, rotaries = fused.FusedStack(device), dict[Rope, Rotary]()
        for block in blocks:
            if block.attention is None or block.dense is None or not isinstance(block.mixer, AttentionBlock):
                return None
            layers.add(block.attention, block.dense)
            if block.mixer.rotary is not None:
                rotaries[block.mixer.rotary.table.spec] = block.mixer.rotary
        if not blocks or len(rotaries) > 1:
            return None
        return cls(layers, len(blocks), next(iter(rotaries.values()), None))

    def serves(self, p: Pass) -> bool:
        """A row of each sequence, each with something to look back at."""
        if not p.single or any(segment.offset == 0 for segment in p.segments):
            return False
        return self._rotary is None or self._rotary.one_table(p)

    def __call__(self, x: mx.array, p: Pass, sequences: Sequence[SequenceMemory]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        writing, keys, values, before = Writing(), [], [], dict[int, mx.array]()
        for i in range(self._count):
            for sequence in sequences:
                memory = sequence.layers[i]
                assert memory is not None
                (k, v), former = memory.lend(writing)
                keys.append(k)
                values.append(v)
                if former is not None:
                    before[id(former)] = former.done
        turn = None if self._rotary is None else self._rotary.turn(p)
        at = [segment.offset for segment in p.segments]
        writing.done = self._layers(x, turn, keys, values, at, list(before.values()))
        return writing.done
