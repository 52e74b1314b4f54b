"""What mlx-lm's files have no place for, though it is in the checkpoint and of use here. Knows reasons, not tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..families import Recipe
from ..families.rules import Drop
from ..families.wrappers import VISION


def left_behind(recipe: Recipe, names: Iterable[str]) -> list[str]:
    """In words, each once, by the names of the checkpoint's tensors."""
    drops = [(re.compile(rule.src), rule.why) for rule in recipe.rules if isinstance(rule, Drop) and rule.why]
    found = [why for pattern, why in drops if any(pattern.search(name) for name in names)]
    return list(dict.fromkeys([*([VISION] if recipe.towers is not None else ()), *found]))
