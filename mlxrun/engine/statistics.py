"""What an engine counts of itself, and how that is told: numbers as data, from any thread, at no cost to who computes.

Whoever has something to count does so by name (`counted`), on the engine's thread; what is so at a moment only, such as
how many wait, is asked for when a pass is over. A snapshot is frozen and stays as it is. Knows no part of the engine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Statistics:
    """`totals` only ever grow; `now` is how things stand; `seconds` is what a pass is believed to take."""

    totals: Mapping[str, float] = field(default_factory=dict)
    now: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {name: {key: plain(value) for key, value in of.items()} for name, of in self._all}

    @property
    def _all(self) -> tuple[tuple[str, Mapping[str, float]], ...]:
        return ("totals", self.totals), ("now", self.now), ("seconds", self.seconds)


def together(known: Iterable[Statistics]) -> Statistics:
    """Of several engines: what is counted adds up, and a pass takes as long as that of the slowest."""
    several = list(known)
    if len(several) == 1:
        return several[0]
    found: tuple[dict[str, float], ...] = ({}, {}, {})
    for one in several:
        for told, of in zip(found, (one.totals, one.now), strict=False):
            for name, value in of.items():
                told[name] = told.get(name, 0) + value
        for name, value in one.seconds.items():
            found[2][name] = max(value, found[2].get(name, 0.0))
    return Statistics(*found)


def plain(value: float) -> float:
    return value if isinstance(value, int) else round(value, 6)


class Counters:
    """The engine's thread writes, anybody reads."""

    def __init__(self) -> None:
        self._totals: dict[str, float] = defaultdict(int)
        self._now: Mapping[str, float] = {}
        self._seconds: Mapping[str, float] = {}

    def counted(self, name: str, by: float = 1) -> None:
        self._totals[name] += by

    def stands(self, now: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        self._now, self._seconds = now, seconds

    def snapshot(self) -> Statistics:
        return Statistics(*(MappingProxyType(dict(of)) for of in (self._totals, self._now, self._seconds)))
