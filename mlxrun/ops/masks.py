"""Who may look at whom: the boolean masks of attention, from positions alone."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Sight:
    """What a query sees: all keys, those up to itself, a window of them, its own chunk."""

    causal: bool = True
    window: int | None = None
    chunk: int | None = None


def mask(sight: Sight, queries: range, keys: range) -> mx.array | str | None:
    """(L, S) of True where query i sees key j; "causal" or None where MLX's kernels need no array.

    Queries and keys are runs of positions; both end at the same position when causal.
    """
    if sight.causal and len(queries) == 1 and _last_sees_all(sight, keys):
        return None
    if not sight.causal and sight.window is None:
        return None
    if sight.causal and sight.window is None and sight.chunk is None:
        return "causal"
    i = mx.arange(queries.start, queries.stop)[:, None]
    j = mx.arange(keys.start, keys.stop)[None]
    seen = j <= i if sight.causal else mx.ones((len(queries), len(keys)), mx.bool_)
    if sight.window is not None:
        seen = seen & (i - j < sight.window if sight.causal else mx.abs(i - j) <= sight.window)
    if sight.chunk is not None:
        seen = seen & (i // sight.chunk == j // sight.chunk)
    return seen


def boolean(sight: Sight, queries: range, keys: range) -> mx.array:
    """The same, always as an array: for attention written out in plain operations."""
    seen = mask(sight, queries, keys)
    if isinstance(seen, mx.array):
        return seen
    if seen is None:
        return mx.ones((len(queries), len(keys)), mx.bool_)
    return mx.arange(keys.start, keys.stop)[None] <= mx.arange(queries.start, queries.stop)[:, None]


def _last_sees_all(sight: Sight, keys: range) -> bool:
    if sight.window is not None and len(keys) > sight.window:
        return False
    return sight.chunk is None or keys.start // sight.chunk == (keys.stop - 1) // sight.chunk
