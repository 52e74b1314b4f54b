"""Attention inside segments: rows that lie end to end, each of which sees those of its own segment, before and behind
it. Nothing is remembered. So texts and pictures of unlike length go through one pass without padding.

Written in plain MLX it goes segment by segment, neighbours of equal length as one batched call. The native form is one
node for all of them, each computed as it would be alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..cpu_kernels import native
from .attention import capped_attention
from .device import Device
from .masks import Sight, boolean, mask

FUSED_HEADS = (64, 80, 128)  # of MLX's attention on Metal
SHORT = 64  # rows, of which scores are small
NOTHING = -1e4  # of a sink that takes what nobody else does; float16 holds it


class PackedRule(NamedTuple):
    """How a row's scores come about, and which rows of its segment it sees."""

    scale: float
    softcap: float = 0.0  # 0: none
    window: int | None = None  # this far to each side; None: all
    sinks: mx.array | None = None


class Segments:
    """How the rows of a pass are cut, and what its layers share of that."""

    __slots__ = ("_masks", "apart", "counts", "seen")

    def __init__(self, counts: Sequence[int], apart: mx.array | None = None, seen: Sequence[int] = ()) -> None:
        """`apart` (H, 2 far + 1): what a score grows by where the key is -far to far places ahead, or farther.
        `seen`: of each how many rows, from the first on, anybody looks at; empty: all."""
        self.counts, self.apart, self.seen = list(counts), apart, list(seen)
        self._masks: dict[tuple[int | None, int, mx.Dtype], mx.array | None] = {}

    def alike(self) -> Iterator[tuple[int, int, int]]:
        """(rows, those of them that are seen, how many neighbours have so many)"""
        for (count, seen), run in groupby(zip(self.counts, self.seen or self.counts, strict=True)):
            yield count, seen, len(list(run))

    def mask(self, window: int | None, length: int, dtype: mx.Dtype) -> mx.array | None:
        """(L, L) of what is seen, or (H, L, L) to be added to scores; None: all is seen, and nothing added."""
        key = (window, length, dtype)
        if key not in self._masks:
            self._masks[key] = self._mask(*key)
        return self._masks[key]

    def _mask(self, window: int | None, length: int, dtype: mx.Dtype) -> mx.array | None:
        sight, places = Sight(causal=False, window=window), range(length)
        if self.apart is None:
            seen = mask(sight, places, places)
            return seen if isinstance(seen, mx.array) else None
        far = self.apart.shape[1] // 2
        ahead = mx.arange(length)[None] - mx.arange(length)[:, None]
        added = self.apart[:, mx.clip(ahead, -far, far) + far]
        return mx.where(boolean(sight, places, places), added, -mx.inf).astype(dtype)


def packed_attention(
    q: mx.array, k: mx.array, v: mx.array, segments: Segments, rule: PackedRule, device: Device
) -> mx.array:
    """Rows of heads, (1, heads, T, D) or (T, heads, 1, D) -> (T, H * Dv). A row that sees nothing, far from all that
    anybody looks at, finds 0."""
    if segments.seen and rule.sinks is None:
        rule = rule._replace(sinks=mx.full((q.shape[1],), NOTHING, q.dtype))
    if not device.native:
        return widened(q, k, v, segments, rule) if device.gpu else reference(q, k, v, segments, rule)
    return native.attend_segments(
        q,
        k,
        v,
        segments.counts,
        rule.scale,
        rule.softcap,
        -1 if rule.window is None else rule.window,
        rule.sinks,
        segments.apart,
        segments.seen,
    )


def widened(q: mx.array, k: mx.array, v: mx.array, segments: Segments, rule: PackedRule) -> mx.array:
    """The same with zeros behind each head, up to a width for which MLX holds no scores: a picture's may be many GB."""
    size = q.shape[-1]
    wide = next((width for width in FUSED_HEADS if width >= size), size)
    if wide == size or max(segments.counts) <= SHORT or rule.softcap:
        return reference(q, k, v, segments, rule)
    more = [(0, 0)] * 3 + [(0, wide - size)]
    y = reference(mx.pad(q, more), mx.pad(k, more), mx.pad(v, more), segments, rule)
    return y.reshape(y.shape[0], -1, wide)[..., :size].reshape(y.shape[0], -1)


def reference(q: mx.array, k: mx.array, v: mx.array, segments: Segments, rule: PackedRule) -> mx.array:
    q, k, v = (_by_row(x) for x in (q, k, v))
    parts, start = [], 0
    for count, seen, times in segments.alike():
        end = start + count * times
        one, two, three = (x[start:end].reshape(times, count, *x.shape[1:]).swapaxes(1, 2) for x in (q, k, v))
        added = segments.mask(rule.window, count, q.dtype)
        added = added if added is None else added[..., :seen]
        parts.append(_batched(one, two[:, :, :seen], three[:, :, :seen], added, rule))
        start = end
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)


def _batched(q: mx.array, k: mx.array, v: mx.array, seen: mx.array | None, rule: PackedRule) -> mx.array:
    """(N, heads, L, D) each -> (N * L, H * Dv)"""
    if rule.softcap:
        y = capped_attention(q, k, v, scale=rule.scale, seen=seen, softcap=rule.softcap)
    else:
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=rule.scale, mask=seen, sinks=rule.sinks)
    return y.swapaxes(1, 2).reshape(q.shape[0] * q.shape[2], -1)


def _by_row(x: mx.array) -> mx.array:
    """(T, heads, D)"""
    return x[0].swapaxes(0, 1) if x.shape[0] == 1 else x[:, :, 0]


def by_distance(table: mx.array, furthest: int) -> mx.array:
    """What each distance adds to a score, of a table (buckets, heads) as T5 and MPNet have it: the first half of the
    buckets for keys behind the query, the second for those ahead; small distances have one each, larger ones share
    some by their logarithm, and from `furthest` on all have the last. -> (heads, 2 * furthest + 1)"""
    half = table.shape[0] // 2
    places = np.arange(-furthest, furthest + 1)
    far, small = np.abs(places), half // 2
    steps = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(small)) / np.float32(math.log(furthest / small))
    shared = small + (steps * np.float32(half - small)).astype(np.int64)
    buckets = np.where(far < small, far, np.minimum(shared, half - 1)) + half * (places > 0)
    return table[mx.array(buckets.astype(np.int32))].swapaxes(0, 1)
