"""Which tokens are left to draw from: cuts of rows of weights, in plain MLX, each on what the one before left.

A weight is e^((score - largest) / temperature). A row whose wish is off is left as it is, and what nobody wishes is not
computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

if TYPE_CHECKING:
    from .sample import Asked


def cut(weights: mx.array, scores: mx.array, asked: Asked) -> mx.array:
    """(R, V) -> the same with zeros where a token is out."""
    left = weights
    if asked.any("sigma"):
        left = by_deviation(left, scores, asked.column("sigma"), asked.column("temperature"))
    if asked.any("top_k"):
        left = best(left, asked.column("top_k"))
    if asked.any("typical"):
        share = asked.column("typical")
        left = mx.where(share < 1, typical(left, share), left)
    if asked.any("top_p"):
        share = asked.column("top_p")
        left = mx.where(share < 1, likeliest(left, share), left)
    if asked.any("min_p"):
        left = kept(left, left >= asked.column("min_p") * left.max(axis=-1, keepdims=True))
    if asked.any("xtc"):
        left = without_likely(left, asked.column("xtc"))
    if asked.any("tau"):
        least = mx.minimum(1.0, weights.sum(axis=-1, keepdims=True) * mx.power(2.0, -asked.surprises[:, None]))
        left = mx.where(asked.column("tau") > 0, kept(weights, weights >= least), left)
    return left


def kept(weights: mx.array, where: mx.array) -> mx.array:
    return mx.where(where, weights, 0.0)


def by_deviation(left: mx.array, scores: mx.array, sigma: mx.array, temperature: mx.array) -> mx.array:
    there = scores > -mx.inf
    count = there.sum(axis=-1, keepdims=True)
    mean = mx.where(there, scores, 0.0).sum(axis=-1, keepdims=True) / count
    squares = mx.where(there, mx.square(scores - mean), 0.0).sum(axis=-1, keepdims=True)
    least = mx.exp(-sigma * mx.sqrt(squares / count) / temperature)
    return mx.where(sigma > 0, kept(left, left >= least), left)


def best(left: mx.array, count: mx.array) -> mx.array:
    places = mx.minimum(count, left.shape[-1]).astype(mx.int32) - 1
    least = mx.take_along_axis(_sorted(left), mx.maximum(places, 0), axis=-1)
    return mx.where(count > 0, kept(left, left >= least), left)


def typical(left: mx.array, share: mx.array) -> mx.array:
    """Those whose surprise is nearest to the mean surprise, until they come to a share."""
    mass = left.sum(axis=-1, keepdims=True)
    surprise = mx.where(left > 0, -mx.log(left / mass), 0.0)
    mean = (left / mass * surprise).sum(axis=-1, keepdims=True)
    away = mx.where(left > 0, mx.abs(surprise - mean), mx.inf)
    order = mx.argsort(away, axis=-1)
    reached = _reached(mx.take_along_axis(left, order, axis=-1), share * mass)
    most = mx.take_along_axis(mx.take_along_axis(away, order, axis=-1), reached, axis=-1)
    return kept(left, away <= most)


def likeliest(left: mx.array, share: mx.array) -> mx.array:
    """The fewest that come to a share."""
    ordered = _sorted(left)
    reached = _reached(ordered, share * left.sum(axis=-1, keepdims=True))
    return kept(left, left >= mx.take_along_axis(ordered, reached, axis=-1))


def without_likely(left: mx.array, share: mx.array) -> mx.array:
    """Of those with that share or more, only the least."""
    likely = left >= share * left.sum(axis=-1, keepdims=True)
    least = mx.where(likely, left, mx.inf).min(axis=-1, keepdims=True)
    several = (likely.sum(axis=-1, keepdims=True) > 1) & (share <= 1)
    return mx.where(several, kept(left, left <= least), left)


def _sorted(left: mx.array) -> mx.array:
    return -mx.sort(-left, axis=-1)


def _reached(ordered: mx.array, need: mx.array) -> mx.array:
    """(R, 1) the place where the sum comes to `need`; the last of those above 0 where rounding keeps it below."""
    short = (mx.cumsum(ordered, axis=-1) < need).sum(axis=-1, keepdims=True)
    return mx.minimum(short, (ordered > 0).sum(axis=-1, keepdims=True) - 1)
