"""Logits of many rows -> the next token of each. Temperature first, then top-k, top-p and min-p, each on what is left.

All is lazy: `Samples` are built before they are computed, and reading them starts nothing new. Which token is
drawn follows from the logits, the seed and the token's number alone, never from the rows beside it.
Log-probabilities are the model's own, before temperature and cuts. Knows nothing of stop ids and limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import mlx.core as mx

from ..core import Sampling, TokenLogprob

MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose one row's token: token number `index` of the request that `seed` belongs to."""

    sampling: Sampling
    seed: int
    index: int

    @property
    def key(self) -> mx.array:
        return mx.random.key(mixed(mixed(self.seed) + self.index))


@dataclass(frozen=True, slots=True)
class Report:
    """Log-probabilities of one row's token, and of the likeliest ones in its place."""

    own: mx.array  # (1,)
    ids: mx.array | None  # (n,) best first
    values: mx.array | None  # (n,)

    @property
    def arrays(self) -> list[mx.array]:
        return [array for array in (self.own, self.ids, self.values) if array is not None]

    def read(self) -> TokenLogprob:
        ids = [] if self.ids is None else numbers(self.ids)
        values = [] if self.values is None else numbers(self.values)
        return TokenLogprob(numbers(self.own)[0], tuple(zip(ids, values, strict=True)))


@dataclass(frozen=True, slots=True)
class Samples:
    tokens: mx.array  # (R,) int32; -1 where the logits hold something that is not a number
    reports: tuple[Report | None, ...]
    _read: list[int] = field(default_factory=list)

    @property
    def arrays(self) -> list[mx.array]:
        return [self.tokens, *(array for report in self.reports if report is not None for array in report.arrays)]

    def token(self, row: int) -> int:
        """The first call waits until all rows are computed."""
        if not self._read:
            self._read.extend(numbers(self.tokens))
        return self._read[row]

    def logprob(self, row: int) -> TokenLogprob | None:
        report = self.reports[row]
        return None if report is None else report.read()


def numbers(row: mx.array) -> list[Any]:
    """(n,) -> Python numbers; MLX types the result as nested lists of anything."""
    return cast(list[Any], row.tolist())


def mixed(number: int) -> int:
    """A 64-bit number whose every bit depends on all bits of the other: the finish of SplitMix64."""
    x = (number + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def best_alone(draws: Sequence[Draw]) -> bool:
    """Whether the best token of each row is all that anybody asks for."""
    return all(draw.sampling.temperature == 0 and draw.sampling.logprobs is None for draw in draws)


def sample(logits: mx.array, draws: Sequence[Draw]) -> Samples:
    """(R, V) -> a token for each row; greedy rows are chosen together."""
    rows = logits.astype(mx.float32)
    greedy = [draw.sampling.temperature == 0 for draw in draws]
    tokens = mx.argmax(rows, axis=-1).astype(mx.int32) if any(greedy) else None  # (R,)
    if tokens is None or not all(greedy):
        drawn = [
            tokens[i : i + 1] if tokens is not None and greedy[i] else draw_token(rows[i], draw)
            for i, draw in enumerate(draws)
        ]
        tokens = mx.concatenate(drawn)
    reports = tuple(
        None if draw.sampling.logprobs is None else report(rows[i], tokens[i], draw.sampling.logprobs)
        for i, draw in enumerate(draws)
    )
    return Samples(mx.where(mx.isnan(mx.sum(rows, axis=-1)), -1, tokens), reports)


def draw_token(row: mx.array, draw: Draw) -> mx.array:
    """(V,) -> (1,) int32"""
    scores, ids = candidates(row, draw.sampling)
    token = mx.random.categorical(scores, key=draw.key)
    return (token if ids is None else ids[token]).astype(mx.int32)[None]


def report(row: mx.array, token: mx.array, alternatives: int) -> Report:
    logprobs = row - mx.logsumexp(row)
    ids = largest(row, min(alternatives, row.size)) if alternatives else None
    return Report(logprobs[token][None], ids, None if ids is None else logprobs[ids])


def candidates(row: mx.array, sampling: Sampling) -> tuple[mx.array, mx.array | None]:
    """(V,) -> scores whose softmax is the distribution to draw from, and their ids (None: all, in order)."""
    scores = (row - mx.max(row)) / sampling.temperature  # largest 0: a tiny temperature cannot overflow
    ids = None
    if 0 < sampling.top_k < row.size or sampling.top_p < 1.0:
        ids = largest(scores, sampling.top_k if 0 < sampling.top_k < row.size else row.size)
        scores = scores[ids]
    if sampling.top_p < 1.0:
        shares = mx.softmax(scores)
        before = mx.cumsum(shares, inclusive=False)
        scores = mx.where(before < sampling.top_p, scores, -mx.inf)
    if sampling.min_p > 0.0:
        scores = mx.where(scores >= math.log(sampling.min_p), scores, -mx.inf)
    return scores, ids


def largest(row: mx.array, count: int) -> mx.array:
    """The ids of the `count` largest, best first."""
    if count == row.size:
        return mx.argsort(-row)
    ids = mx.argpartition(-row, count - 1)[:count]
    return ids[mx.argsort(-row[ids])]
