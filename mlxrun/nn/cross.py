"""Attention of a decoder's rows over what was heard: its keys are made once of a window of sound, not of tokens.

Where nothing was heard yet it adds nothing.
"""

from __future__ import annotations

import mlx.core as mx

from ..contracts import HeardWindow
from ..ops.attention import attention_over
from ..ops.span import Span
from ..spec import Attention
from .batch import Pass, Segment
from .norm import NormBlock
from .params import Params


class CrossBlock:
    def __init__(self, spec: Attention, dim: int, norm: NormBlock | None, params: Params) -> None:
        assert spec.hears is not None
        self.spec, self.slot, self.norm, self.device = spec, spec.hears, norm, params.device
        width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.q = params.linear("q", width, dim, bias=spec.qkv_bias)
        self.k = params.linear("k", kv_width, dim, bias=spec.qkv_bias and spec.k_bias)
        self.v = params.linear("v", kv_width, dim, bias=spec.qkv_bias)
        self.o = params.linear("o", dim, width, bias=spec.out_bias)

    def keys(self, rows: mx.array) -> Span:
        """(S, dim) rows of a listener -> keys and values (1, G, S, D)."""
        s = self.spec

        def folded(x: mx.array) -> mx.array:
            heads = x.astype(self.device.kept(x.dtype)).reshape(1, -1, s.kv_heads, s.head_dim)
            return mx.contiguous(heads.transpose(0, 2, 1, 3))

        return Span.of((folded(self.k(rows)), folded(self.v(rows))), 0)

    def __call__(self, x: mx.array, p: Pass) -> mx.array:
        """x (T, dim) -> x + what each row finds."""
        if all(heard is None for heard in p.heard):
            return x
        q = p.fold(self.q(x if self.norm is None else self.norm(x)), self.spec.heads, self.spec.head_dim)
        found = [self._look(q, p, segment, heard) for segment, heard in zip(p.segments, p.heard, strict=True)]
        return x + self.o(p.unfold(found))

    def _look(self, q: mx.array, p: Pass, segment: Segment, heard: HeardWindow | None) -> mx.array:
        own = p.of_segment(q, segment)
        if heard is None:
            return mx.zeros_like(own)
        return attention_over(own, heard.spans[self.slot], self.device, scale=self.spec.scale, seen=None)
