"""Rows of logits -> the next token of each, as each request wants it.

`Samples` are built before they are computed, and reading them starts nothing new. Where a row's sampling looks back,
what was drawn last must be known (`Sampling.needs_last`); any other can be built before that is read. Which token is
drawn follows from the logits, what was said, the seed and the token's number alone, never from the rows beside it.
Log-probabilities are the model's own, before all that is asked. Knows the ids that end an answer, but ends none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np

from ..core import NO_IDS, Sampling, TokenLogprob
from ..ops.device import Device
from ..ops.sample import Asked, Drawn, Places, RowWish
from ..ops.sample import likeliest as likeliest_rows
from ..ops.sample import sample as sample_rows

MASK = 2**64 - 1
HALF = 2**32 - 1
OFF = 2.0  # a share that no token has
FIRST_SURPRISE = 2.0  # mirostat's, in units of its tau


@dataclass(frozen=True, slots=True)
class Samples:
    drawn: Drawn
    wanted: tuple[int | None, ...]  # alternatives that each row wants told; None: nothing is told
    _read: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def tokens(self) -> mx.array:
        """(R,) int32; -1 where the logits hold something that is not a number, -2 where no token may come."""
        return self.drawn.tokens

    @property
    def arrays(self) -> list[mx.array]:
        return [array for array in self.drawn if array is not None]

    def token(self, row: int) -> int:
        """The first call waits until all rows are computed."""
        return int(self._column("tokens")[row])

    def surprise(self, row: int) -> float:
        return float(self._column("surprise")[row])

    def logprob(self, row: int) -> TokenLogprob | None:
        wanted = self.wanted[row]
        if wanted is None:
            return None
        ids, values = self._column("ids")[row], self._column("values")[row]
        return TokenLogprob(self._column("own")[row], tuple(zip(ids[:wanted], values[:wanted], strict=True)))

    def _column(self, name: str) -> list[Any]:
        if name not in self._read:
            self._read[name] = cast(list[Any], getattr(self.drawn, name).tolist())
        return self._read[name]


class Ahead(NamedTuple):
    """A token that is built and not read: one row of what a pass sampled. Of each draft the row behind it tells what
    follows if it is right."""

    samples: Samples
    row: int
    drafts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose one row's token, of the request that `seed` belongs to."""

    sampling: Sampling
    seed: int
    index: int  # in the answer
    text: Sequence[int] = ()  # the prompt, then the answer so far; all of it where its sampling `needs_last`
    prompt: int = 0  # tokens
    stop_ids: frozenset[int] = NO_IDS
    bits: np.ndarray | None = None  # of what may come, a bit for each token in words of 32; None: all
    surprise: float | None = None  # what mirostat was left with; None: nothing was drawn yet

    @property
    def keys(self) -> tuple[int, int]:
        key = mixed(mixed(self.seed) + self.index)
        return key & HALF, key >> 32

    @property
    def wish(self) -> RowWish:
        wish = wish_of(self.sampling)
        if self.sampling.xtc_probability > self.coin:
            return wish._replace(xtc=self.sampling.xtc_threshold)
        return wish

    @property
    def coin(self) -> float:
        """From 0 to 1, apart from what is drawn."""
        return mixed(mixed(self.seed ^ MASK) + self.index) / 2**64

    @property
    def biases(self) -> list[tuple[int, float]]:
        """What is not allowed has none of a chance."""
        sampling, out = self.sampling, -math.inf
        banned = sampling.banned | (self.stop_ids if self.index < sampling.min_tokens else NO_IDS)
        return [*sampling.bias, *((token, out) for token in banned)]


@lru_cache(maxsize=1024)
def wish_of(sampling: Sampling) -> RowWish:
    """All of it that is the same for each of its tokens."""
    return RowWish(
        temperature=sampling.temperature,
        sigma=sampling.top_n_sigma,
        top_k=float(sampling.top_k),
        typical=sampling.typical_p,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        xtc=OFF,
        tau=sampling.mirostat_tau,
        eta=sampling.mirostat_eta,
        repetition=sampling.repetition_penalty,
        presence=sampling.presence_penalty,
        frequency=sampling.frequency_penalty,
        dry=sampling.dry_multiplier,
        dry_base=sampling.dry_base,
        dry_allowed=float(sampling.dry_allowed_length),
    )


def mixed(number: int) -> int:
    """A 64-bit number whose every bit depends on all bits of the other: the finish of SplitMix64."""
    x = (number + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def best_alone(draws: Sequence[Draw]) -> bool:
    """Whether the best token of each row is all that anybody asks for."""
    return all(draw.sampling.best_alone for draw in draws)


def only_best(tokens: mx.array) -> Samples:
    return Samples(Drawn(tokens), (None,) * tokens.size)


def likeliest(logits: mx.array, device: Device) -> Samples:
    """(R, V) -> the best token of each row, where that is all that anybody asks for."""
    return Samples(likeliest_rows(logits, device), (None,) * logits.shape[0])


def sample(logits: mx.array, draws: Sequence[Draw], device: Device) -> Samples:
    """(R, V) -> a token for each row."""
    wanted = tuple(draw.sampling.logprobs for draw in draws)
    return Samples(sample_rows(logits, asked_of(draws, logits.shape[-1]), device), wanted)


def asked_of(draws: Sequence[Draw], vocab: int) -> Asked:
    texts: list[np.ndarray] = []
    length = 0
    bias: list[tuple[int, float]] = []
    breakers: list[int] = []
    places: list[Places] = []
    for draw in draws:
        starts = length, len(bias), len(breakers)
        texts.append(np.array(draw.text[first_needed(draw) :], np.int32))
        length += len(texts[-1])
        bias += draw.biases
        breakers += in_order(draw.sampling.dry_breakers) if draw.sampling.dry_multiplier else ()
        places.append(placed(draw, starts, (length, len(bias), len(breakers))))
    told = [draw.sampling.logprobs for draw in draws if draw.sampling.logprobs is not None]
    return Asked(
        wishes=[draw.wish for draw in draws],
        places=places,
        keys=[draw.keys for draw in draws],
        tokens=np.concatenate(texts),
        bias_ids=[token for token, _ in bias],
        bias=[value for _, value in bias],
        breakers=breakers,
        surprise=surprises(draws) if any(draw.sampling.mirostat_tau for draw in draws) else None,
        mask=mask_of(draws, vocab),
        best=min(max(told), vocab) if told else -1,
    )


@lru_cache(maxsize=64)
def in_order(ids: frozenset[int]) -> tuple[int, ...]:
    return tuple(sorted(ids))


def first_needed(draw: Draw) -> int:
    """From which token of its text on anything counts."""
    if draw.sampling.looks_back:
        return 0
    counts = draw.sampling.presence_penalty or draw.sampling.frequency_penalty
    return draw.prompt if counts else len(draw.text)


def placed(draw: Draw, starts: tuple[int, int, int], ends: tuple[int, int, int]) -> Places:
    (begin, bias, breaker), (end, bias_end, breaker_end) = starts, ends
    length = end - begin

    def back(window: int) -> int:
        return begin + max(0, length - window) if window else begin

    answer = min(end, begin + max(0, draw.prompt - first_needed(draw)))
    penalized, dry = back(draw.sampling.repeat_last_n), back(draw.sampling.dry_penalty_last_n)
    return Places(begin, end, answer, min(penalized, end), min(dry, end), bias, bias_end, breaker, breaker_end)


def surprises(draws: Sequence[Draw]) -> mx.array:
    """(R,)"""
    first = [FIRST_SURPRISE * draw.sampling.mirostat_tau for draw in draws]
    known = [draw.surprise for draw in draws]
    return mx.array([start if one is None else one for start, one in zip(first, known, strict=True)], mx.float32)


def mask_of(draws: Sequence[Draw], vocab: int) -> mx.array | None:
    """(R, words)"""
    if all(draw.sampling.allowed is None and draw.bits is None for draw in draws):
        return None
    return mx.array(np.stack([open_to(draw, vocab) for draw in draws]))


def open_to(draw: Draw, vocab: int) -> np.ndarray:
    allowed = bits_of(draw.sampling.allowed, vocab)
    if draw.bits is None:
        return allowed
    return allowed & np.pad(draw.bits, (0, allowed.size - draw.bits.size))


@lru_cache(maxsize=64)
def bits_of(allowed: frozenset[int] | None, vocab: int) -> np.ndarray:
    """A bit for each token, in words of 32."""
    flags = np.ones(vocab, np.uint8)
    if allowed is not None:
        flags[:] = 0
        flags[list(allowed)] = 1
    flags = np.pad(flags, (0, -vocab % 32))
    return np.packbits(flags, bitorder="little").view("<u4")
