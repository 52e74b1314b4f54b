"""Logits of one row -> the next token. Temperature first, then top-k, top-p and min-p, each on what is left.

All is lazy: a `Sample` is built before it is computed. Log-probabilities are the model's own, before
temperature and cuts. Knows nothing of stop ids and limits.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx

from ..core import Sampling, TokenLogprob


@dataclass(frozen=True, slots=True)
class Sample:
    token: mx.array  # (1,) int32; -1 where the logits hold something that is not a number
    logprobs: mx.array | None = None  # (V,) float32
    top: mx.array | None = None  # (n,) the likeliest ids, best first

    @property
    def arrays(self) -> list[mx.array]:
        return [array for array in (self.token, self.logprobs, self.top) if array is not None]

    def read(self) -> int:
        return int(numbers(self.token)[0])

    def read_logprob(self) -> TokenLogprob | None:
        if self.logprobs is None:
            return None
        ids = [] if self.top is None else numbers(self.top)
        own, *others = numbers(self.logprobs[mx.array([self.read(), *ids])])
        return TokenLogprob(own, tuple(zip(ids, others, strict=True)))


def numbers(row: mx.array) -> list[Any]:
    """(n,) -> Python numbers; MLX types the result as nested lists of anything."""
    return cast(list[Any], row.tolist())


class Sampler:
    """One request's way of choosing; it carries the request's own random key from step to step."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._key = mx.random.key(secrets.randbits(64) if sampling.seed is None else sampling.seed)

    def __call__(self, logits: mx.array) -> Sample:  # (1, V)
        row = logits[0].astype(mx.float32)
        if self._sampling.temperature == 0:
            token = mx.argmax(row)
        else:
            self._key, key = mx.random.split(self._key)
            scores, ids = candidates(row, self._sampling)
            token = mx.random.categorical(scores, key=key)
            token = token if ids is None else ids[token]
        token = mx.where(mx.isnan(mx.sum(row)), -1, token.astype(mx.int32))
        return self._reported(row, token[None])

    def _reported(self, row: mx.array, token: mx.array) -> Sample:
        wanted = self._sampling.logprobs
        if wanted is None:
            return Sample(token)
        logprobs = row - mx.logsumexp(row)
        return Sample(token, logprobs, largest(row, min(wanted, row.size)) if wanted else None)


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
