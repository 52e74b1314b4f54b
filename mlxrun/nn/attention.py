"""Softmax attention on the ragged batch.

Projections, norms and positions are done for all rows at once; only the look-up of keys is per
sequence. The block is handed one memory for each segment and never asks what kind it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..contracts import LayerMemory
from ..ops.attention import alibi, attention_over, capped_attention_over
from ..ops.masks import Sight
from ..ops.packed import PackedRule, packed_attention
from ..ops.paged import KeyPlace, KeyRule, attend
from ..ops.span import Span
from ..spec import Attention, Norm
from .batch import Pass, Segment
from .norm import HeadNorms, NormBlock
from .params import Params
from .rope import Rotary


class AttentionBlock:
    def __init__(self, spec: Attention, dim: int, params: Params) -> None:
        s = self.spec = spec
        self.device = params.device
        width, kv_width = s.heads * s.head_dim, s.kv_heads * s.head_dim
        own = s.borrows is None
        bias, bounded = s.qkv_bias, s.bounded
        self.q = params.linear("q", width * (2 if s.gate == "packed" else 1), dim, bias=bias, bounded=bounded)
        self.k = params.linear("k", kv_width, dim, bias=bias and s.k_bias, bounded=bounded) if own else None
        self.v = params.linear("v", kv_width, dim, bias=bias, bounded=bounded) if own and not s.k_is_v else None
        self.o = params.linear("o", dim, width, bias=s.out_bias, bounded=bounded)
        self.q_norm: NormBlock | HeadNorms | None = None
        self.k_norm: NormBlock | HeadNorms | None = None
        if s.qk_norm is not None:
            self.q_norm = self._qk_norm("q_norm", s.qk_norm, s.heads, params)
            if own:
                self.k_norm = self._qk_norm("k_norm", s.qk_norm, s.kv_heads, params)
        self.v_norm = params.norm("v_norm", s.v_norm, s.head_dim) if s.v_norm is not None and own else None
        self.out_norm = None if s.out_norm is None else params.norm("out_norm", s.out_norm, width)
        gates = {"elementwise": width, "head_softplus": s.heads}
        self.gate = params.linear("gate", gates[s.gate], dim) if s.gate in gates else None
        self.sinks = params.array("sinks", s.heads) if s.sinks else None
        self.slopes = None if s.slopes is None else mx.array(s.slopes, mx.float32)
        self.rotary = None if s.rope is None else Rotary(s.rope)
        self.sight = Sight(s.causal, s.window, s.chunk, s.pictures)
        self.rule = KeyRule(s.scale, s.softcap or 0.0, s.window or 0, s.chunk or 0, self.sinks, self.slopes)
        self.packed = None  # of rows that see all of their text, of which nothing is remembered
        if not s.causal and own and s.lends is None and s.chunk is None and self.slopes is None:
            self.packed = PackedRule(s.scale, s.softcap or 0.0, s.window, self.sinks)

    def _qk_norm(self, name: str, norm: Norm, heads: int, params: Params) -> NormBlock | HeadNorms:
        if self.spec.qk_norm_scope == "each":
            return HeadNorms(norm, params.device, params.array(f"{name}.weight", heads, self.spec.head_dim))
        return params.norm(
            name, norm, heads * self.spec.head_dim if self.spec.qk_norm_scope == "all" else self.spec.head_dim
        )

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        s = self.spec
        q, gate = self._query(x, p)
        y = self.look(q, None if s.borrows is not None else self._keys(x, p), p, memories)
        if s.gate == "head_softplus" and self.gate is not None:
            weights = nn.softplus(self.gate(x))[..., None]  # (T, H, 1)
            y = (y.reshape(p.total, s.heads, s.head_dim) * weights).reshape(p.total, -1)
        y = y if gate is None else y * mx.sigmoid(gate)
        return self.o(y if self.out_norm is None else self.out_norm(y))

    def look(
        self, q: mx.array, new: tuple[mx.array, mx.array] | None, p: Pass, memories: Sequence[LayerMemory | None]
    ) -> mx.array:
        """Folded queries, and this pass's folded keys and values, which are remembered -> rows (T, heads * D).

        None: another layer's keys are looked at.
        """
        s = self.spec
        if self.packed is not None and new is not None:
            return packed_attention(q, *new, p.cut, self.packed, self.device)  # nothing is kept, so nothing is narrowed
        if p.pages is not None:
            place = self._place(p, memories)
            if place is not None:
                k, v = new or (None, None)
                return attend(q, k, v, place, p.pages, self.rule)
        if new is None:
            assert s.borrows is not None
            return self._over(q, p.lent[s.borrows], p)
        spans = self._remember(*new, p, memories)
        if s.lends is not None:
            p.lent[s.lends] = spans
        return self._over(q, spans, p)

    def _place(self, p: Pass, memories: Sequence[LayerMemory | None]) -> KeyPlace | None:
        if self.spec.borrows is not None:
            return p.places[self.spec.borrows]
        if memories[0] is None:
            return None
        place = memories[0].places[0]
        if self.spec.lends is not None:
            p.places[self.spec.lends] = place
        return place

    def _remember(self, k: mx.array, v: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> tuple[Span, ...]:
        """This pass's folded keys and values go to memory; what may be looked at comes back."""
        spans, dtype = [], self.device.kept(k.dtype)
        k, v = k.astype(dtype), v.astype(dtype)
        for segment, memory in zip(p.segments, memories, strict=True):
            rows = p.of_segment(k, segment), p.of_segment(v, segment)
            spans.append(Span.of(rows, segment.offset) if memory is None else memory.append(*rows))
        return tuple(spans)

    def _over(self, q: mx.array, spans: Sequence[Span], p: Pass) -> mx.array:
        """Folded queries -> rows (T, heads * D)."""
        return p.unfold(
            [self._attend(p.of_segment(q, seg), span, p, seg) for seg, span in zip(p.segments, spans, strict=True)]
        )

    def _query(self, x: mx.array, p: Pass) -> tuple[mx.array, mx.array | None]:
        s = self.spec
        q, gate = self.q(x), None
        if s.gate == "packed":
            q, gate = mx.split(q.reshape(p.total, s.heads, 2 * s.head_dim), 2, axis=-1)
            gate = gate.reshape(p.total, -1)
        elif s.gate == "elementwise" and self.gate is not None:
            gate = self.gate(x)
        q = self._shape(q, p, s.heads, self.q_norm)
        if s.temperature is not None:
            t = s.temperature
            steps = mx.floor((p.positions.astype(mx.float32) + t.shift) / t.floor)
            q = (q * p.fold_rows(1 + t.beta * mx.log1p(steps))).astype(q.dtype)
        return q, gate

    def _keys(self, x: mx.array, p: Pass) -> tuple[mx.array, mx.array]:
        s = self.spec
        assert self.k is not None
        raw = self.k(x)
        k = self._shape(raw, p, s.kv_heads, self.k_norm)
        v = self._clip(raw if self.v is None else self.v(x))
        v = p.fold(v, s.kv_heads, s.head_dim)
        if self.v_norm is not None:
            v = self.v_norm(v)
        return k, v

    def _shape(self, rows: mx.array, p: Pass, heads: int, norm: object) -> mx.array:
        """Norm, clip, fold into heads and rotate; a norm over one head comes after the clip."""
        s = self.spec
        if s.qk_norm_scope == "all" and callable(norm):
            rows, norm = norm(rows), None
        x = p.fold(self._clip(rows), heads, s.head_dim)
        if callable(norm) and not s.qk_norm_after_rope:
            x = norm(x)
        if self.rotary is not None:
            x = self.rotary(x, p)
        if callable(norm) and s.qk_norm_after_rope:
            x = norm(x)
        return x

    def _clip(self, x: mx.array) -> mx.array:
        return x if self.spec.clip is None else mx.clip(x, -self.spec.clip, self.spec.clip)

    def _attend(self, q: mx.array, span: Span, p: Pass, segment: Segment) -> mx.array:
        s = self.spec
        if self.slopes is not None:
            bias = alibi(self.slopes, self.sight, segment.positions, span.positions).astype(q.dtype)
            return attention_over(q, span, self.device, scale=s.scale, seen=bias)
        seen = p.mask(self.sight, segment, span.positions)
        if s.softcap is not None:
            visible = None if seen is None else p.boolean(self.sight, segment, span.positions)
            return capped_attention_over(q, span, self.device, scale=s.scale, seen=visible, softcap=s.softcap)
        return attention_over(q, span, self.device, scale=s.scale, seen=seen, sinks=self.sinks)
