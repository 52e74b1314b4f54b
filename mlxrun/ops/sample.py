"""One token from each row of logits: what is asked of a row, and the forms that answer.

The draw is exact and repeatable: of the tokens that are left, the one with the least -log(1 - u) / weight, where u is
a number between 0 and 1 that follows from the row's keys and the token's id alone. So a token depends on nobody else's
row, nor on who computes it, up to rounding. Every cut is a band of weights, so equal ones stay or go together. All is
lazy; what was said before is data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ..cpu_kernels import native
from . import cuts
from .device import Device

MOST_REPEATED = 48  # tokens of a repeated sequence that count
LAST_BELOW_ONE = 1.0 - 2.0**-24


class RowWish(NamedTuple):
    """What a row asks for; cpu_kernels/src/sample.h has the same columns."""

    temperature: float = 1.0  # 0: the largest
    sigma: float = 0.0  # 0: off
    top_k: float = 0.0  # 0: off
    typical: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    xtc: float = 2.0  # above 1: off, or its coin fell so
    tau: float = 0.0  # of mirostat; 0: off
    eta: float = 0.1
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    dry: float = 0.0  # 0: off
    dry_base: float = 1.75
    dry_allowed: float = 2.0


class Places(NamedTuple):
    """Where in `Asked.tokens`, `Asked.bias` and `Asked.breakers` a row's own are."""

    begin: int = 0
    end: int = 0
    answer: int = 0  # from here on presence and frequency count,
    penalized: int = 0  # from here repetition,
    dry: int = 0  # and from here repeated sequences
    bias: int = 0
    bias_end: int = 0
    breaker: int = 0  # each row's own ascend
    breaker_end: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """Of all rows together."""

    wishes: list[RowWish]
    places: list[Places]
    keys: list[tuple[int, int]]  # 32 bits each
    tokens: np.ndarray  # (N,) int32
    bias_ids: list[int]
    bias: list[float]
    breakers: list[int]
    surprise: mx.array | None  # (R,) of mirostat
    mask: mx.array | None = None  # (R, words) uint32, a bit for each token that may come
    best: int = -1  # how many of the likeliest to tell; -1: nothing is told

    def any(self, name: str) -> bool:
        index, off = RowWish._fields.index(name), getattr(RowWish(), name)
        return any(wish[index] != off for wish in self.wishes)

    def column(self, name: str) -> mx.array:
        """(R, 1)"""
        index = RowWish._fields.index(name)
        return mx.array([[wish[index]] for wish in self.wishes], mx.float32)

    @property
    def surprises(self) -> mx.array:
        return mx.zeros((len(self.wishes),)) if self.surprise is None else self.surprise


class Drawn(NamedTuple):
    tokens: mx.array  # (R,) int32; -1 where a logit is not a number or infinite, -2 where none may come
    surprise: mx.array | None = None  # (R,) what mirostat is left with
    own: mx.array | None = None  # (R,) the logarithm of the token's share, before anything was asked
    ids: mx.array | None = None  # (R, best), the likeliest first
    values: mx.array | None = None  # (R, best)


def sample(logits: mx.array, asked: Asked, device: Device) -> Drawn:
    return _native(logits, asked) if device.native else reference(logits, asked)


def likeliest(logits: mx.array, device: Device) -> Drawn:
    """The largest of each row, where nothing else is asked: a step of plain rows builds nothing but this."""
    rows = logits.shape[0]
    if device.native:
        return Drawn(*native.sample(logits, *_nothing_asked_natively(rows)))
    return reference(logits, nothing_asked(rows))


@lru_cache(maxsize=256)
def nothing_asked(rows: int) -> Asked:
    wishes, places = [RowWish(temperature=0.0)] * rows, [Places()] * rows
    return Asked(wishes, places, [(0, 0)] * rows, np.zeros(0, np.int32), [], [], [], None)


@lru_cache(maxsize=256)
def _nothing_asked_natively(rows: int) -> tuple[Any, ...]:
    return _arguments(nothing_asked(rows))


def _native(logits: mx.array, asked: Asked) -> Drawn:
    return Drawn(*native.sample(logits, *_arguments(asked)))


def _arguments(asked: Asked) -> tuple[Any, ...]:
    return (
        mx.array(np.array(asked.wishes, np.float32)),
        mx.array(np.array(asked.places, np.int32)),
        mx.array(np.array(asked.keys, np.uint32)),
        mx.array(asked.tokens),
        mx.array(np.array(asked.bias_ids, np.int32)),
        mx.array(np.array(asked.bias, np.float32)),
        mx.array(np.array(asked.breakers, np.int32)),
        mx.array(np.zeros(len(asked.wishes), np.float32)) if asked.surprise is None else asked.surprise,
        asked.mask,
        asked.best,
    )


def reference(logits: mx.array, asked: Asked) -> Drawn:
    """The meaning, in plain MLX."""
    raw = logits.astype(mx.float32)
    scores = edited(raw, asked)
    top = scores.max(axis=-1, keepdims=True)
    tokens, surprise = mx.argmax(scores, axis=-1).astype(mx.int32), asked.surprises
    temperature = asked.column("temperature")
    if any(wish.temperature for wish in asked.wishes):
        warm = temperature > 0
        weights = mx.exp((scores - top) / mx.where(warm, temperature, 1.0))
        left = cuts.cut(weights, scores, asked)
        drawn = pick(left, asked.keys)
        tokens = mx.where(warm[:, 0], drawn, tokens)
        if asked.any("tau"):
            share = mx.take_along_axis(left, drawn[:, None], axis=-1)[:, 0] / left.sum(axis=-1)
            tau, eta = asked.column("tau")[:, 0], asked.column("eta")[:, 0]
            surprise = mx.where(tau > 0, surprise - eta * (-mx.log2(share) - tau), surprise)
    tokens = mx.where(top[:, 0] == -mx.inf, -2, tokens)
    odd = mx.isnan(raw).any(axis=-1) | mx.isinf(raw.max(axis=-1))
    tokens = mx.where(odd, -1, tokens).astype(mx.int32)
    return Drawn(tokens, surprise) if asked.best < 0 else told(raw, tokens, surprise, asked.best)


def pick(weights: mx.array, keys: list[tuple[int, int]]) -> mx.array:
    """(R, V) -> (R,) int32"""
    both = mx.array(np.array(keys, np.uint32))
    ids = mx.arange(weights.shape[-1], dtype=mx.uint32) * 0x9E3779B9
    words = _mixed(_mixed(ids + both[:, :1]) + both[:, 1:])
    u = words.astype(mx.float32) * 2.0**-32 + 2.0**-33
    far = -mx.log1p(-mx.minimum(u, LAST_BELOW_ONE))
    return mx.argmin(mx.where(weights > 0, far / weights, mx.inf), axis=-1).astype(mx.int32)


def _mixed(x: mx.array) -> mx.array:
    """The finish of MurmurHash3, of 32 bits."""
    x = (x ^ (x >> 16)) * mx.array(0x85EBCA6B, mx.uint32)
    x = (x ^ (x >> 13)) * mx.array(0xC2B2AE35, mx.uint32)
    return x ^ (x >> 16)


def told(raw: mx.array, tokens: mx.array, surprise: mx.array, best: int) -> Drawn:
    logprobs = raw - mx.logsumexp(raw, axis=-1, keepdims=True)
    known = tokens[:, None] >= 0
    own = mx.take_along_axis(logprobs, mx.maximum(tokens[:, None], 0), axis=-1)
    ids = mx.argsort(-raw, axis=-1)[:, :best]
    values = mx.take_along_axis(logprobs, ids, axis=-1)
    return Drawn(
        tokens,
        surprise,
        mx.where(known, own, mx.nan)[:, 0],
        mx.where(known, ids.astype(mx.int32), -1),
        mx.where(known, values, mx.nan),
    )


def edited(scores: mx.array, asked: Asked) -> mx.array:
    """With everything that is asked of single tokens."""
    rows, vocab = scores.shape
    if asked.bias_ids:
        owners = np.repeat(np.arange(rows), [place.bias_end - place.bias for place in asked.places])
        scores = scores.at[mx.array(owners), mx.array(asked.bias_ids)].add(mx.array(asked.bias, mx.float32))
    if asked.mask is not None:
        bits = (asked.mask[..., None] >> mx.arange(32, dtype=mx.uint32)) & 1
        scores = mx.where(bits.reshape(rows, -1)[:, :vocab] > 0, scores, -mx.inf)
    if asked.any("repetition"):
        used = counted(scores.shape, asked, [place.penalized for place in asked.places])
        factor = asked.column("repetition")
        scores = mx.where(used > 0, mx.where(scores > 0, scores / factor, scores * factor), scores)
    if asked.any("presence") or asked.any("frequency"):
        said = counted(scores.shape, asked, [place.answer for place in asked.places])
        scores = scores - asked.column("presence") * (said > 0) - asked.column("frequency") * said
    if asked.any("dry"):
        scores = mx.stack([_without_repeats(scores[row], asked, row) for row in range(rows)])
    return scores


def counted(shape: tuple[int, ...], asked: Asked, starts: list[int]) -> mx.array:
    """(R, V) how often each token stands in each row's text from there on."""
    texts = [asked.tokens[start : place.end] for start, place in zip(starts, asked.places, strict=True)]
    counts = mx.zeros(shape)
    if any(map(len, texts)):
        owners = np.repeat(np.arange(shape[0]), [len(text) for text in texts])
        counts = counts.at[mx.array(owners), mx.array(np.concatenate(texts))].add(1.0)
    return counts


def _without_repeats(scores: mx.array, asked: Asked, row: int) -> mx.array:
    wish, place = asked.wishes[row], asked.places[row]
    if wish.dry <= 0:
        return scores
    text = mx.array(asked.tokens[place.dry : place.end])
    lengths = repeated(text, len(scores), asked.breakers[place.breaker : place.breaker_end])
    worse = wish.dry * mx.array(wish.dry_base) ** (lengths - wish.dry_allowed)
    return mx.where((lengths > 0) & (lengths >= wish.dry_allowed), scores - worse, scores)


def repeated(text: mx.array, vocab: int, breakers: list[int]) -> mx.array:
    """(n,) -> (V,): how much of the text's end stood before each token already."""
    n = text.size
    longest = mx.zeros((vocab,))
    if n < 2:
        return longest
    known = mx.zeros((max([vocab, *breakers]) + 1,), mx.bool_)
    breaks = (known.at[mx.array(breakers)].add(True) if breakers else known)[mx.maximum(text, 0)]
    back = mx.arange(min(MOST_REPEATED, n))
    ends, place = n - 1 - back, mx.arange(n - 1)[:, None] - back
    same = (text[mx.maximum(place, 0)] == text[ends]) & (place >= 0) & ~breaks[ends]
    lengths = mx.cumprod(same.astype(mx.float32), axis=-1).sum(axis=-1)
    following = text[1:]
    lengths = mx.where(breaks[1:] | (following < 0), 0.0, lengths)
    return longest.at[mx.maximum(following, 0)].maximum(lengths)
