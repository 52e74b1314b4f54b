"""Attention and Mamba 2 on the same rows, added (Falcon H1). Each asks the layer's one memory for its own kind."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..spec import SideBySide
from .attention import AttentionBlock
from .batch import Pass
from .mamba2 import Mamba2Block
from .params import Params


class SideBySideBlock:
    def __init__(self, spec: SideBySide, dim: int, params: Params) -> None:
        self.spec = spec
        self.attention = AttentionBlock(spec.attention, dim, params.scope("attention"))
        self.mamba = Mamba2Block(spec.mamba, dim, params.scope("mamba"))

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        s = self.spec
        attended = self.attention(x * s.attention_in, p, memories) * s.attention_out
        return attended + self.mamba(x * s.mamba_in, p, memories) * s.mamba_out
