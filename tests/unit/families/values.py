"""Values that no honest file holds, and the places in one where they can be put."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from typing import Any

DEEP = json.loads("[" * 200 + "]" * 200)
VALUES: list[Any] = [
    *(0, -1, 1, 2, 3, 7, 65, 2**31 - 1, 2**31, 2**64 - 1, -(2**63), 10**30, 10**4000, -(10**400)),
    *(0.0, -0.0, 0.5, 1e30, 1e308, 1e-320, math.inf, -math.inf, math.nan),
    *(None, True, False, "", "x", "yarn", "longrope", "\n\x1b[31m\r", "M" * 4, "y" * 3000),
    *([], [1], [1, 2, 3, 4], ["x"], [[1]], [None], ["full_attention"] * 4, [2**32 - 1] * 4, DEEP),
    *({}, {"a": 1}, {"rope_type": "yarn"}, {"full_attention": {}}, {"full_attention": 3}),
    *({"__float__": "x"}, {"__float__": []}, {"__float__": "Infinity"}),
]


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to everything inside."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*before, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*before, key))


def mutant(original: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """With one or two values put elsewhere or taken away."""
    made = copy.deepcopy(original)
    for _ in range(chance.choice((1, 1, 2))):
        *way, last = chance.choice(list(places(made)))
        holder = made
        for key in way:
            holder = holder[key]
        if isinstance(holder, dict) and chance.random() < 0.05:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(chance.choice(VALUES))
    return made
