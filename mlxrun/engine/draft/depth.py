"""How many drafts of each request ride in the next pass: as many as pay, none included.

Pure: chances and times in, counts out. A pass of `rows` requests yields a token for each and, with drafts, as many more
as are right; what counts is tokens by time. A request whose drafts cost more than they brought rests, for longer each
time, and a resting one is decoded as if there were no drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

MARGIN = 1.02  # what is promised must beat plain decoding by this much: times are noisy
WINDOW = 64  # tokens after which a request's account is settled
LEAST = 0.98  # of the plain speed
FIRST_REST, LONGEST_REST = 16, 512  # tokens


class Depths(NamedTuple):
    counts: list[int]  # of each row
    speed: float  # tokens a second that are expected with them


def choose(chances: Sequence[Sequence[float]], extras: Sequence[float], plain: float) -> Depths:
    """Drafts of each row. `chances`: of each draft, given those before it; `extras`: seconds that 0, 1, ... drafts
    add to a pass that takes `plain`."""
    rows = len(chances)
    counts, best = [0] * rows, [0] * rows
    most = MARGIN * rows / plain
    heap: list[tuple[float, int]] = []  # of each row the next draft: the chance that it counts, negative
    for row, own in enumerate(chances):
        if own:
            heappush(heap, (-own[0], row))
    expected = float(rows)
    for drafts in range(1, len(extras)):
        if not heap:
            break
        chance, row = heappop(heap)
        counts[row] += 1
        expected -= chance
        if counts[row] < len(chances[row]):
            heappush(heap, (chance * chances[row][counts[row]], row))
        speed = expected / (plain + extras[drafts])
        if speed > most:
            most, best = speed, counts.copy()
    return Depths(best, most)


@dataclass(slots=True)
class Account:
    """What drafts cost one request and what they brought, in seconds."""

    tokens: int = 0
    cost: float = 0.0
    brought: float = 0.0
    plain: float = 0.0  # what the tokens would have taken without drafts
    rest: int = 0  # tokens that it is still decoded plainly
    next_rest: int = FIRST_REST

    @property
    def rests(self) -> bool:
        return self.rest > 0

    def said_plainly(self, tokens: int = 1) -> None:
        self.rest = max(0, self.rest - tokens)

    def enter(self, tokens: int, cost: float, each: float) -> None:
        """A pass with drafts (or that waited for some) said so many tokens, of which one is worth `each` seconds."""
        self.tokens += tokens
        self.cost += cost
        self.brought += (tokens - 1) * each
        self.plain += tokens * each
        if self.tokens >= WINDOW:
            self._settle()

    def _settle(self) -> None:
        if self.plain and self.plain / max(self.plain + self.cost - self.brought, 1e-9) < LEAST:
            self.rest, self.next_rest = self.next_rest, min(LONGEST_REST, 2 * self.next_rest)
        else:
            self.next_rest = FIRST_REST
        self.tokens, self.cost, self.brought, self.plain = 0, 0.0, 0.0, 0.0
