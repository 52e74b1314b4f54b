"""What both engines are asked, and what is looked at: when tokens came. Token ids only, greedy unless said."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Ask:
    tokens: Sequence[int]
    answer: int  # tokens
    after: float = 0.0  # seconds after the first
    sampled: bool = False  # at a temperature, by the likeliest 95%
    behind: int | None = None  # the place of another one in the same call, whose fourth token it waits for
    until: int | None = None  # the place of another one, with whose end it is cancelled


@dataclass
class Told:
    began: float = 0.0  # on one clock for all of a call
    times: list[float] = field(default_factory=list)  # of each token
    tokens: list[int] = field(default_factory=list)
    host: list[float] = field(default_factory=list)  # seconds of processor that the engine's own thread took until then
    cached: int | None = None  # tokens of the prompt that were not computed again

    @property
    def first(self) -> float:
        return self.times[0] - self.began

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]

    @property
    def rate(self) -> float:
        """Tokens a second once it speaks."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])


class Peer(Protocol):
    name: str
    context: int  # of each answer

    def ask(self, asks: Sequence[Ask]) -> list[Told]:
        """All of them, at once or as they say; returns when the last has ended."""


class Prompts:
    """Ids that no engine has seen before, unless they are asked for again."""

    def __init__(self, vocab: int, seed: int = 0) -> None:
        self._random, self._vocab = random.Random(seed), vocab

    def __call__(self, count: int) -> list[int]:
        return self._random.choices(range(100, min(self._vocab, 40000)), k=count)


def total_rate(told: Sequence[Told]) -> float:
    """Tokens of all answers by the time that all of it took."""
    return sum(len(one.times) for one in told) / (max(one.times[-1] for one in told) - min(one.began for one in told))


def share(values: Sequence[float], of: float) -> float:
    """The value that so many are below."""
    return sorted(values)[min(len(values) - 1, int(of * len(values)))]


median = statistics.median
