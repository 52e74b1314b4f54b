"""All layers of a plain decoder as one node, whatever rows of whatever sequences a pass has.

For a small model, building and walking the graph of a step costs as much as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..contracts import SequenceMemory
from ..ops import fused
from ..ops.device import Device
from ..ops.fast_forms import STACK
from ..spec import Decoder, Rope
from .attention import AttentionBlock
from .batch import Pass
from .layer import LayerBlock
from .rope import Rotary


class LayerStack:
    __slots__ = ("_layers", "_rotary")

    def __init__(self, layers: fused.FusedStack, rotary: Rotary | None) -> None:
        self._layers, self._rotary = layers, rotary

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
            layers.add(block.attention, block.dense, block.mixer.rule)
            if block.mixer.rotary is not None:
                rotaries[block.mixer.rotary.table.spec] = block.mixer.rotary
        if not blocks or len(rotaries) > 1:
            return None
        return cls(layers, next(iter(rotaries.values()), None))

    def serves(self, p: Pass) -> bool:
        """Keys lie in pages, and all sequences turn alike."""
        return p.pages is not None and (self._rotary is None or self._rotary.one_table(p))

    def __call__(self, x: mx.array, p: Pass, sequence: SequenceMemory) -> mx.array:
        """x (T, dim) -> (T, dim). `sequence`: any of the pass."""
        assert p.pages is not None
        places = [layer.places[0] for layer in sequence.layers if layer is not None]
        turn = None if self._rotary is None else self._rotary.turn(p)
        return self._layers(x, turn, places, p.pages)
