"""Who may look at whom: the boolean masks of attention, from positions alone."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

Pictures = tuple[tuple[int, int], ...]  # first position and end of each


@dataclass(frozen=True, slots=True)
class Sight:
    """What a query sees: all keys, those up to itself, a window of them, its own chunk; a picture's rows each other."""

    causal: bool = True
    window: int | None = None
    chunk: int | None = None
    pictures: bool = False


def mask(sight: Sight, queries: range, keys: range, pictures: Pictures = ()) -> mx.array | str | None:
    """(L, S) of True where query i sees key j; "causal" or None where MLX's kernels need no array.

    Queries and keys are runs of positions; both end at the same position when causal. `pictures`: (first, end) of each
    whose rows are among the queries.
    """
    if not sight.pictures:
        pictures = ()
    if sight.causal and pictures:
        return _with_pictures(sight, queries, keys, pictures)
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


def ends_of(queries: range, pictures: Pictures) -> list[int]:
    """Behind which key each query sees none: the last of its picture, or itself."""
    ends = [position + 1 for position in queries]
    for first, end in pictures:
        for position in range(max(first, queries.start), min(end, queries.stop)):
            ends[position - queries.start] = min(end, queries.stop)
    return ends


def _with_pictures(sight: Sight, queries: range, keys: range, pictures: Pictures) -> mx.array:
    i, j = mx.arange(queries.start, queries.stop)[:, None], mx.arange(keys.start, keys.stop)[None]
    seen = j < mx.array(ends_of(queries, pictures))[:, None]
    return seen if sight.window is None else seen & (i - j < sight.window)


def boolean(sight: Sight, queries: range, keys: range, pictures: Pictures = ()) -> mx.array:
    """The same, always as an array: for attention written out in plain operations."""
    seen = mask(sight, queries, keys, pictures)
    if isinstance(seen, mx.array):
        return seen
    if seen is None:
        return mx.ones((len(queries), len(keys)), mx.bool_)
    return mx.arange(keys.start, keys.stop)[None] <= mx.arange(queries.start, queries.stop)[:, None]


def _last_sees_all(sight: Sight, keys: range) -> bool:
    if sight.window is not None and len(keys) > sight.window:
        return False
    return sight.chunk is None or keys.start // sight.chunk == (keys.stop - 1) // sight.chunk
