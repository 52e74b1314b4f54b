"""Attention over a compressed latent (DeepSeek, Kimi, GLM-5, Mistral 4), dense or with chosen keys.

Memory holds one row a token, shared by all heads: the normed latent and the rotated key part side by
side. A query meets it in one of two ways that mean the same. Absorbed: the key matrix goes into the
query and the value matrix behind the sum, and keys are read as they lie. Expanded: every head's keys
and values are made first, which costs once for each key and makes each row cheaper, so it pays from a
certain number of rows on.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..ops.attention import attention, latent_attention_over
from ..ops.masks import Sight
from ..ops.paged import KeyPlace, KeyRule, attend, read_all
from ..ops.per_head import per_head
from ..ops.span import Span
from ..spec import LatentAttention
from .batch import Pass, Segment
from .indexer import IndexerBlock, chosen_mask, too_few
from .params import Params
from .rope import Rotary

CAUSAL = Sight()


class LatentAttentionBlock:
    def __init__(self, spec: LatentAttention, dim: int, params: Params) -> None:
        s = self.spec = spec
        self.device = params.device
        queries = s.heads * (s.nope_dim + s.rope_dim)
        self.q_a = self.q_a_norm = None
        if s.q_rank is not None:
            self.q_a = params.linear("q_a", s.q_rank, dim, bias=s.bias)
            self.q_a_norm = params.norm("q_a_norm", s.norm, s.q_rank)
        self.q = params.linear("q" if s.q_rank is None else "q_b", queries, s.q_rank or dim)
        self.kv_a = params.linear("kv_a", s.kv_rank + s.rope_dim, dim, bias=s.bias)
        self.kv_a_norm = params.norm("kv_a_norm", s.norm, s.kv_rank)
        self.turned = params.has("k_bt.weight")
        if self.turned:
            self.k_b = params.weight("k_bt.weight", s.heads, s.kv_rank, s.nope_dim)
        else:
            self.k_b = params.weight("k_b.weight", s.heads, s.nope_dim, s.kv_rank)
        self.v_b = params.weight("v_b.weight", s.heads, s.v_dim, s.kv_rank)
        self.o = params.linear("o", dim, s.heads * s.v_dim, bias=s.bias)
        self.gate = params.linear("gate", s.heads, dim) if s.gate else None
        self.rotary = Rotary(s.rope) if s.rope is not None else None
        self.expand_from = _expand_from(s)
        self.indexer = None
        if s.indexer is not None and s.q_rank is not None:
            self.indexer = IndexerBlock(s.indexer, dim, s.q_rank, params.scope("index"))

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        """x (T, dim) -> (T, dim)."""
        s = self.spec
        low = x if self.q_a is None or self.q_a_norm is None else self.q_a_norm(self.q_a(x))
        q = self._query(low, p)
        if p.pages is not None and self.indexer is None and s.borrows is None:
            place = memories[0].places[0] if memories[0] is not None else None
            if place is not None:
                return self._out(x, self._over_pages(q, self._new(x, p)[0], place, p))
        spans = self._remember(x, p, memories)
        chosen = self._choose(x, low, p, spans)
        parts = [
            self._attend(p.of_segment(q, segment), span, ids, p, segment)
            for segment, span, ids in zip(p.segments, spans, chosen, strict=True)
        ]
        return self._out(x, p.unfold(parts).reshape(p.total, s.heads * s.v_dim))

    def _out(self, x: mx.array, found: mx.array) -> mx.array:
        if self.gate is None:
            return self.o(found)
        open_by = mx.sigmoid(self.gate(x).astype(mx.float32)).astype(x.dtype)  # (T, H)
        return self.o((found.reshape(*open_by.shape, -1) * open_by[..., None]).reshape(found.shape))

    def _query(self, low: mx.array, p: Pass) -> mx.array:
        """The compressed queries (T, q_rank), or x -> folded queries with their last part rotated."""
        s = self.spec
        q = p.fold(self.q(low), s.heads, s.nope_dim + s.rope_dim)
        nope, rotated = mx.split(q, [s.nope_dim], axis=-1)
        q = mx.concatenate([nope, self._turned(rotated, p)], axis=-1)
        if s.temperature is None:
            return q
        t = s.temperature
        steps = mx.floor((p.positions.astype(mx.float32) + t.shift) / t.floor)
        return (q * p.fold_rows(1 + t.beta * mx.log1p(steps))).astype(q.dtype)

    def _turned(self, x: mx.array, p: Pass) -> mx.array:
        return x if self.rotary is None else self.rotary(x, p)

    def _over_pages(self, q: mx.array, new: mx.array, place: KeyPlace, p: Pass) -> mx.array:
        """All rows absorbed, whatever their number: so that a row does not depend on how its prompt was cut."""
        s = self.spec
        assert p.pages is not None
        if len(p.segments) > 1:
            q = q.transpose(2, 1, 0, 3)  # (1, H, T, nope + rope)
        y = attend(self._absorb(q), new, None, place, p.pages, KeyRule(s.scale))  # (T, H * rank)
        y = per_head(y.reshape(1, p.total, s.heads, s.kv_rank).transpose(0, 2, 1, 3), self.v_b, self.device)
        return p.unfold([y])

    def _new(self, x: mx.array, p: Pass) -> list[mx.array]:
        """This pass's rows, folded: those that heads share, and the indexer's where there is one."""
        s = self.spec
        latent, k_pe = mx.split(self.kv_a(x), [s.kv_rank], axis=-1)
        latent = p.fold(self.kv_a_norm(latent), 1, s.kv_rank)
        k_pe = self._turned(p.fold(k_pe, 1, s.rope_dim), p)
        new = [mx.concatenate([latent, k_pe], axis=-1)]
        if self.indexer is not None:
            new.append(self.indexer.keys(x, p))
        return new

    def _remember(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> list[Span]:
        """This pass's rows go to memory; what may be looked at comes back."""
        new = self._new(x, p)
        if p.pages is not None and memories[0] is not None:
            read = [read_all(rows, at, p.pages) for rows, at in zip(new, memories[0].places, strict=True)]
            written = [rows for found in read[1:] for rows in found]  # also what nobody looks at in this pass
            latents = mx.depends(read[0], written) if written else read[0]
            return [Span.of(rows, 0) for rows in zip(latents, *read[1:], strict=True)]
        spans = []
        for segment, memory in zip(p.segments, memories, strict=True):
            rows = [p.of_segment(part, segment) for part in new]
            spans.append(Span.of(tuple(rows), segment.offset) if memory is None else memory.append(*rows))
        return spans

    def _choose(self, x: mx.array, low: mx.array, p: Pass, spans: Sequence[Span]) -> tuple[mx.array | None, ...]:
        """For each sequence the ids (L, top_k) of the keys to look at; None: all."""
        s = self.spec
        if s.borrows is not None:
            return p.chosen[s.borrows]
        if self.indexer is None or s.indexer is None:
            return (None,) * len(spans)
        chosen: list[mx.array | None] = []
        q, weights = self.indexer.queries(low, p), self.indexer.head_weights(x)
        for segment, span in zip(p.segments, spans, strict=True):
            if too_few(s.indexer, segment):
                chosen.append(None)
                continue
            seen = None if segment.count == 1 else p.boolean(CAUSAL, segment, span.positions)
            rows = p.of_segment(q, segment), weights[segment.rows]
            chosen.append(self.indexer.choose(*rows, span.arrays[1], seen))
        if s.indexer.lends is not None:
            p.chosen[s.indexer.lends] = tuple(chosen)
        return tuple(chosen)

    def _attend(self, q: mx.array, span: Span, ids: mx.array | None, p: Pass, segment: Segment) -> mx.array:
        """q (1, H, L, nope + rope) -> (1, H, L, v)."""
        seen: mx.array | str | None
        if ids is None:
            seen = p.mask(CAUSAL, segment, span.positions)
        elif segment.count == 1:
            span, seen = Span.of((span.arrays[0][:, :, ids[0]],), span.first), None
        else:
            seen = chosen_mask(ids, p.boolean(CAUSAL, segment, span.positions))
        return (self._expanded if segment.count >= self.expand_from else self._absorbed)(q, span, seen)

    def _absorbed(self, q: mx.array, span: Span, seen: mx.array | str | None) -> mx.array:
        s = self.spec
        q = self._absorb(q)
        y = latent_attention_over(q, span, s.kv_rank, self.device, scale=s.scale, seen=seen)
        return per_head(y, self.v_b, self.device)

    def _absorb(self, q: mx.array) -> mx.array:
        """Folded queries (.., nope + rope) -> (.., rank + rope)."""
        nope, rotated = mx.split(q, [self.spec.nope_dim], axis=-1)
        return mx.concatenate([per_head(nope, self.k_b, self.device, as_it_lies=not self.turned), rotated], axis=-1)

    def _expanded(self, q: mx.array, span: Span, seen: mx.array | str | None) -> mx.array:
        s = self.spec
        latent, rotated = mx.split(span.arrays[0], [s.kv_rank], axis=-1)  # of (1, 1, S, rank + rope)
        k = per_head(latent, self.k_b, self.device, as_it_lies=self.turned)  # (1, H, S, nope)
        k = mx.concatenate([k, mx.broadcast_to(rotated, (*k.shape[:3], s.rope_dim))], axis=-1)
        return attention(q, k, per_head(latent, self.v_b, self.device), self.device, scale=s.scale, seen=seen)


def _expand_from(s: LatentAttention) -> float:
    """Rows from which expanding multiplies less: a head and key cost rank * (nope + v) once, and then
    nope + v instead of 2 * rank for each row. 171 for DeepSeek-V3."""
    once = s.kv_rank * (s.nope_dim + s.v_dim)
    saved = 2 * s.kv_rank - s.nope_dim - s.v_dim
    return once / saved if saved > 0 else float("inf")
