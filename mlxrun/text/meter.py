"""What a chat template may spend: one budget for time and memory together.

Every step is paid for before it is taken, in proportion to the data it reads or makes, so no template can
loop, grow or nest its way past the budget, and the same template always comes out the same. One unit is
about one small step, 64 characters or 4 list entries. Knows no Jinja syntax; `sandbox.py` puts it in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, KeysView, Sequence, Sized, ValuesView
from collections.abc import Set as AnySet
from typing import Any

MAX_RANGE = 100_000
MAX_BITS = 1024  # of a whole number
PERCENT_WIDTH = re.compile(r"[%)][#+\-. \d]*\d{4}")  # a width or precision of four digits or more
NUMBER = re.compile(r"\d{4}")

CONTAINERS = (list, tuple, dict, AnySet, ValuesView)


class OverBudget(RuntimeError):
    """The template asked for more than it may have."""


class Meter:
    def __init__(self, budget: int) -> None:
        self.left = budget

    def charge(self, cost: int = 1) -> bool:
        """Always takes something: no template can earn."""
        self.left -= max(cost, 1)
        if self.left < 0:
            raise OverBudget("it does more work than any conversation needs")
        return True

    def weigh(self, *values: Any) -> None:
        """Pay for reading values to the bottom, as printing, comparing or hashing them does."""
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                self.charge(1 + len(value) // 64)
            elif isinstance(value, dict):
                self.charge(1 + 2 * len(value))
                waiting.extend(value.keys())
                waiting.extend(value.values())
            elif isinstance(value, CONTAINERS):
                self.charge(1 + len(value))
                waiting.extend(value)
            elif isinstance(value, range):
                self.charge(1 + len(value) // 4)
            else:
                self.charge(1)

    def span(self, value: Any) -> int:
        """The cost of copying a value without looking into its parts."""
        if isinstance(value, str):
            return 1 + len(value) // 64
        return 1 + len(value) // 4 if isinstance(value, Sized) else 1

    def hold(self, value: Any) -> Any:
        """A list where there was an iterator, which could be read only once."""
        if not hasattr(value, "__next__"):
            return value
        kept = []
        for item in value:
            self.charge(2)
            kept.append(item)
        return kept

    def whole(self, value: Any) -> Any:
        """A number that Python can work with in one small step."""
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise OverBudget("it makes a number of absurd size")
        return value

    def width(self, value: Any, limit: int = MAX_RANGE) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > limit:
            raise OverBudget(f"it asks for a width or count of {str(value)[:20]}")
        return abs(value)

    # operators

    def binary(self, operator: str, left: Any, right: Any) -> object:
        """Pay for one binary operation; what may stand in memory afterwards is checked before."""
        if operator == "%" and isinstance(left, str):
            return self.percent(left, right)
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, (str, list, tuple)) and isinstance(other, int):
                    return self._repeat(one, other)
        powers = operator == "**" and isinstance(left, int) and isinstance(right, int)
        if powers and (right > MAX_BITS or left.bit_length() * max(right, 0) > MAX_BITS):
            raise OverBudget("it makes a number of absurd size")
        if isinstance(left, AnySet):
            self.weigh(left, right)  # what comes out is hashed again
        return self.charge(self.span(left) + self.span(right))

    def _repeat(self, value: Sequence[Any], times: int) -> object:
        total = len(value) * max(times, 0)
        return self.charge(1 + total // (64 if isinstance(value, str) else 4))

    def compare(self, operator: str, left: Any, right: Any) -> Any:
        """Pay for one comparison; the right side comes back, as a list where it could be read only once."""
        if operator in ("in", "notin"):
            self.weigh(left)
            right = self.hold(right)
            if isinstance(right, str):
                self.charge(self.span(right))
            elif isinstance(right, range) and not isinstance(left, int):
                self.charge(len(right))
            elif not isinstance(right, (dict, KeysView)):
                self.weigh(right)
        elif isinstance(left, CONTAINERS) and isinstance(right, CONTAINERS):
            self.weigh(left)
        else:
            self.charge(min(self.span(left), self.span(right)))
        return right

    # text

    def percent(self, template: str, values: Any) -> object:
        """The cost of `template % values`."""
        self.charge(self.span(template))
        if "*" in template:
            raise OverBudget("it formats with a width that is computed")
        if PERCENT_WIDTH.search(template):
            raise OverBudget("it formats with an absurd width")
        return self._fields(template.count("%"), values)

    def braces(self, template: str, values: Iterable[Any]) -> None:
        """The cost of `template.format(*values)`."""
        fields = template.replace("{{", "").split("{")[1:]
        self.charge(self.span(template) + len(fields))
        if any("}" not in field for field in fields[:-1]):
            raise OverBudget("it formats with a width that is computed")
        if any(NUMBER.search(field.partition("}")[0].partition(":")[2]) for field in fields):
            raise OverBudget("it formats with an absurd width")
        self._fields(len(fields), tuple(values))

    def _fields(self, count: int, values: Any) -> object:
        before = self.left
        self.weigh(values)
        return self.charge((before - self.left + 16) * count)

    def replace(self, text: str, old: str, new: str) -> None:
        self.charge(self.span(text) + self.span(old))
        made = len(text) + text.count(old) * len(new)
        self.charge(1 + made // 64)

    def split(self, text: str, separator: Any) -> None:
        pieces = text.count(separator) if isinstance(separator, str) and separator else len(text) // 2
        self.charge(self.span(text) + pieces)

    def product(self, text: str, other: Any) -> None:
        """For searches that may look at every pair of characters."""
        self.charge(self.span(text) * (1 + len(other) if isinstance(other, str) else 1))

    def join(self, separator: str, items: Any) -> None:
        self.weigh(items)
        if isinstance(items, Sized):
            self.charge(len(items) * len(separator) // 64)
