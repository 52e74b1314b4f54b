"""How often drafts were right, by who proposed them and of what kind they were. Old news counts for less."""

from __future__ import annotations

from collections.abc import Callable

MEMORY = 0.98  # what each draft leaves of the weight of those before it
PRIOR = 4.0  # seen drafts that weigh as much as what was expected before any


class Rates:
    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], tuple[float, float]] = {}  # right ones, all

    def chance(self, name: str, kind: int, prior: Callable[[int], float]) -> float:
        """That a draft of that kind is right, given that those before it were."""
        right, seen = self._seen.get((name, kind), (0.0, 0.0))
        return (right + PRIOR * prior(kind)) / (seen + PRIOR)

    def saw(self, name: str, kind: int, was_right: bool) -> None:
        right, seen = self._seen.get((name, kind), (0.0, 0.0))
        self._seen[name, kind] = right * MEMORY + was_right, seen * MEMORY + 1.0
