"""What a row of logits becomes, and what is drawn from it: plain loops in float64, from the words of `Sampling`."""

from __future__ import annotations

import math

import numpy as np

from mlxrun.core import Sampling
from mlxrun.engine.sampler import Draw


def edited(logits: np.ndarray, draw: Draw) -> np.ndarray:
    s = draw.sampling
    scores = logits.astype(np.float64).copy()
    text = list(draw.text)
    for token, value in s.bias:
        scores[token] += value
    for token in range(len(scores)):
        if s.allowed is not None and token not in s.allowed:
            scores[token] = -math.inf
        early = draw.index < s.min_tokens and token in draw.stop_ids
        if token in s.banned or early:
            scores[token] = -math.inf
    for token in set(text[-s.repeat_last_n :] if s.repeat_last_n else text):
        scores[token] = (
            scores[token] / s.repetition_penalty if scores[token] > 0 else scores[token] * s.repetition_penalty
        )
    answer = text[draw.prompt :]
    for token in set(answer):
        scores[token] -= s.presence_penalty + s.frequency_penalty * answer.count(token)
    if s.dry_multiplier:
        seen = text[-s.dry_penalty_last_n :] if s.dry_penalty_last_n else text
        for token, length in repeated(seen, s.dry_breakers).items():
            if length >= s.dry_allowed_length:
                scores[token] -= s.dry_multiplier * s.dry_base ** (length - s.dry_allowed_length)
    return scores


def repeated(text: list[int], breakers: frozenset[int]) -> dict[int, int]:
    """Token -> how much of the end of the text stood before it already, at most 48 tokens of it."""
    found: dict[int, int] = {}
    for place in range(1, len(text)):
        length = 0
        while length < 48 and length < place:
            one, other = text[place - 1 - length], text[-1 - length]
            if one != other or one in breakers:
                break
            length += 1
        if length and text[place] not in breakers:
            found[text[place]] = max(found.get(text[place], 0), length)
    return found


def chances(scores: np.ndarray, s: Sampling, *, coin: float = 1.0, surprise: float | None = None) -> np.ndarray:
    """The distribution to draw from, at a temperature above 0."""
    p = np.exp((scores - scores.max()) / s.temperature)
    p /= p.sum()
    if s.mirostat_tau:
        mu = 2 * s.mirostat_tau if surprise is None else surprise
        with np.errstate(divide="ignore"):
            p[(-np.log2(p) > mu) & (p < p.max())] = 0
        return p / p.sum()
    if s.top_n_sigma:
        there = scores[scores > -math.inf]
        p[scores < scores.max() - s.top_n_sigma * there.std()] = 0
        p /= p.sum()
    if s.top_k:
        p[p < np.sort(p)[::-1][min(s.top_k, len(p)) - 1]] = 0
        p /= p.sum()
    if s.typical_p < 1:
        with np.errstate(divide="ignore"):
            information = -np.log(p)
        away = np.abs(information - np.sum(p[p > 0] * information[p > 0]))
        p[away > reached(away, p, s.typical_p)] = 0
        p /= p.sum()
    if s.top_p < 1:
        p[-p > reached(-p, p, s.top_p)] = 0
        p /= p.sum()
    p[p < s.min_p * p.max()] = 0
    p /= p.sum()
    likely = p[p >= s.xtc_threshold]
    if s.xtc_probability > coin and len(likely) > 1:
        p[p > likely.min()] = 0
    return p / p.sum()


def reached(keys: np.ndarray, p: np.ndarray, share: float) -> float:
    """The key at which the chances, in the order of their keys, come to a share."""
    order = np.argsort(keys, kind="stable")
    short = int((np.cumsum(p[order]) < share - 1e-12).sum())
    return float(keys[order][min(short, int((p > 0).sum()) - 1)])


def times(count: int, keys: tuple[int, int]) -> np.ndarray:
    """The exponential number of each token, to be divided by its chance; the least is drawn."""
    ids = np.arange(count, dtype=np.uint32)
    words = mixed(mixed(ids * np.uint32(0x9E3779B9) + np.uint32(keys[0])) + np.uint32(keys[1]))
    u = (words.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)).astype(np.float64)
    return -np.log1p(-np.minimum(u, 1 - 2.0**-24))


def mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))
