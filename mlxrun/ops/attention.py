"""Softmax attention of one sequence's new rows over its keys.

The chooser hands what MLX's tuned kernel can do (window, sinks, grouped heads) to it; a soft cap is
written out. Scores and softmax are float32 in both.
"""

from __future__ import annotations

import mlx.core as mx

from ..cpu_kernels import native
from . import metal
from .device import Device
from .masks import Sight, boolean, mask
from .span import Span


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    device: Device,
    *,
    scale: float,
    seen: mx.array | str | None,
    sinks: mx.array | None = None,
) -> mx.array:
    """q (1, H, L, D), k (1, G, S, D), v (1, G, S, Dv) -> (1, H, L, Dv). `seen` from `masks.mask`."""
    if device.native:
        return _native(q, k, v, k.shape[2], scale, seen, sinks)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=seen, sinks=sinks)


def attention_over(
    q: mx.array,
    span: Span,
    device: Device,
    *,
    scale: float,
    seen: mx.array | str | None,
    sinks: mx.array | None = None,
) -> mx.array:
    """The same for remembered keys and values, read where they lie if that can be."""
    k, v = span.buffers
    if seen is None and device.chooser.possible():
        y = metal.attention(q, k, v, span.count, metal.ScoreRule(scale, sinks=sinks), device.chooser)
        if y is not None:
            return y
    if device.native:
        return _native(q, k, v, span.count, scale, seen, sinks)
    return attention(q, *_both(span), device, scale=scale, seen=seen, sinks=sinks)


def latent_attention_over(
    q: mx.array, span: Span, width: int, device: Device, *, scale: float, seen: mx.array | str | None
) -> mx.array:
    """The same over remembered rows that all heads share: a key is a row, its value the first `width` of the row."""
    if seen is None and device.chooser.possible():
        y = metal.attention(q, span.buffers[0], width, span.count, metal.ScoreRule(scale), device.chooser)
        if y is not None:
            return y
    rows = span.arrays[0]
    return attention(q, rows, rows[..., :width], device, scale=scale, seen=seen)


def _both(span: Span) -> tuple[mx.array, mx.array]:
    k, v = span.arrays
    return k, v


def _native(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    count: int,
    scale: float,
    seen: mx.array | str | None,
    sinks: mx.array | None,
) -> mx.array:
    causal, mask = (seen == "causal", None) if isinstance(seen, str) else (False, seen)
    return native.attention(q, k, v, scale, mask, causal, 0, sinks, 0.0, count)


def capped_attention_over(
    q: mx.array, span: Span, device: Device, *, scale: float, seen: mx.array | None, softcap: float
) -> mx.array:
    """As `attention_over` with scores squashed to +-softcap; `seen` is boolean (L, S), None: all."""
    if seen is None and device.chooser.possible():
        k, v = span.buffers
        y = metal.attention(q, k, v, span.count, metal.ScoreRule(scale, softcap=softcap), device.chooser)
        if y is not None:
            return y
    k, v = span.arrays
    if device.native:
        return native.attention(q, k, v, scale, seen, softcap=softcap)
    return capped_attention(q, k, v, scale=scale, seen=seen, softcap=softcap)


def capped_attention(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, seen: mx.array | None, softcap: float
) -> mx.array:
    """In plain operations. `seen` is boolean or added, and broadcasts to (L, S) or (H, L, S)."""
    batch, heads, groups = q.shape[0], q.shape[1], k.shape[1]
    q = q.reshape(batch, groups, heads // groups, *q.shape[2:])  # (B, G, H/G, L, D)
    scores = (q.astype(mx.float32) * scale) @ k[:, :, None].astype(mx.float32).swapaxes(-1, -2)
    scores = softcap * mx.tanh(scores / softcap)
    if seen is not None:
        seen = seen if seen.ndim == 2 else seen.reshape(groups, heads // groups, *seen.shape[1:])
        scores = mx.where(seen, scores, -mx.inf) if seen.dtype == mx.bool_ else scores + seen
    y = mx.softmax(scores, axis=-1).astype(v.dtype) @ v[:, :, None]
    return y.reshape(batch, heads, *y.shape[3:])


def alibi(slopes: mx.array, sight: Sight, queries: range, keys: range) -> mx.array:
    """Additive mask (H, L, S): -inf where unseen, slope * key position elsewhere."""
    bias = slopes[:, None, None] * mx.arange(keys.start, keys.stop, dtype=mx.float32)
    return mx.where(boolean(sight, queries, keys), bias, -mx.inf)


__all__ = ["Sight", "alibi", "attention", "boolean", "capped_attention_over", "mask"]
