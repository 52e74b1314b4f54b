"""Which token may come next in what is written down of a sound, and which one does.

Times stand in pairs around what is said, never go back, and one comes first. Where times together are likelier than
every word alone, one comes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..speech import SpeechTokens

Logits = NDArray[np.float32]


def barred(logits: Logits, tokens: Sequence[int], words: SpeechTokens) -> Logits:
    """(vocab,), without what may not come behind `tokens` of a window."""
    logits = logits.copy()
    first, end = words.first_time, words.end
    logits[[token for token in words.never if token < first]] = -np.inf
    logits[end + 1 : first] = -np.inf
    if not tokens:
        logits[list(words.not_first)] = -np.inf
        logits[:first] = -np.inf
        logits[first + words.latest_start + 1 :] = -np.inf
        return logits
    timed = tokens[-1] >= first
    if timed and (len(tokens) < 2 or tokens[-2] >= first):
        logits[first:] = -np.inf
    elif timed:
        logits[:end] = -np.inf
    times = [token for token in tokens if token >= first]
    if times:  # a segment has some length
        logits[first : times[-1] + (0 if timed and len(tokens) > 1 and tokens[-2] < first else 1)] = -np.inf
    if likelier(logits[first:], logits[:first]):
        logits[:first] = -np.inf
    return logits


def likelier(times: Logits, others: Logits) -> bool:
    """All times together than any other token."""
    top = times.max(initial=-np.inf)
    if top == -np.inf:
        return False
    together = float(top) + math.log(float(np.exp(times - top).sum()))
    return together > float(others.max(initial=-np.inf))


def chosen(logits: Logits, temperature: float, random: np.random.Generator) -> tuple[int, float]:
    """A token and its log-probability among those that may come."""
    logprobs = log_softmax(logits)
    if temperature == 0:
        token = int(logprobs.argmax())
    else:
        shares = np.exp(log_softmax(logits / np.float32(temperature)).astype(np.float64))
        token = int(random.choice(len(shares), p=shares / shares.sum()))
    return token, float(logprobs[token])


def log_softmax(logits: Logits) -> Logits:
    top = logits.max()
    shifted = logits - top
    return shifted - np.float32(np.log(np.exp(shifted).sum()))
