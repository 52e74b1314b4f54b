"""How many prompt tokens go into a pass, and whose. Knows numbers only."""

from __future__ import annotations

from collections.abc import Sequence

CHUNK = 512  # prompt tokens in one pass; a cancel waits for one of these at most
SHARED_CHUNK = 128  # the same while others decode: they wait for it


def split_budget(wanted: Sequence[int], budget: int) -> list[int]:
    """What each gets of the budget: the oldest half of it, so that it gets on; else whoever needs least comes first."""
    given = [0] * len(wanted)
    for index, most in ((0, budget // 2), *((i, budget) for i in sorted(range(len(wanted)), key=wanted.__getitem__))):
        if wanted:
            more = min(wanted[index] - given[index], most, budget)
            given[index] += more
            budget -= more
    return given
