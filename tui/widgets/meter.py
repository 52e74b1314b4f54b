"""The line below the prompt: memory as a bar and in numbers, tokens a second, and the key to all others.

What does not fit the width is left out, the least important first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from ..text import size, tokens_per_second

if TYPE_CHECKING:
    from mlxrun.core import Memory

BAR, NARROW_BAR = 16, 8  # cells
NOTICED = 0.01  # of the context
WARN = 0.85  # of the context
SIGNS = {"weights": "█", "cache": "▒", "other": "━", "free": "─"}  # each its own, for who sees no colours
KEYS, SHORT_KEYS = "ctrl+p commands", "ctrl+p"
Styled = tuple[str, str]  # text, style


class MeterLine(Widget):
    memory: reactive[Memory | None] = reactive(None)
    rate: reactive[float | None] = reactive(None)
    context: reactive[tuple[int, int] | None] = reactive(None)  # tokens used, of so many
    hint: reactive[str] = reactive("")  # in place of all, while it is not empty

    def render(self) -> Content:
        width = self.size.width
        if self.hint:
            return Content.styled(self.hint, "$primary").truncate(width, ellipsis=True)
        for left, right in self._layouts():
            gap = width - Content.assemble(*left).cell_length - Content.assemble(*right).cell_length
            if gap >= 2:
                return Content.assemble(*left, " " * gap, *right)
        return Content("")

    def _layouts(self) -> Iterator[tuple[list[Styled], list[Styled]]]:
        """From the richest to the poorest."""
        speed = [] if self.context is None else gauge(*self.context)
        if self.rate is not None:
            speed = [*speed, ("  " if speed else "", ""), (tokens_per_second(self.rate), "$foreground")]
        apart: list[Styled] = [("   ", "")] if speed else []
        rights = [[*speed, *apart, (KEYS, "$faint")], [*speed, *apart, (SHORT_KEYS, "$faint")], speed]
        for left in self._lefts():
            for right in rights:
                yield left, right

    def _lefts(self) -> Iterator[list[Styled]]:
        if self.memory is not None:
            yield [*bar(self.memory, BAR), ("  ", ""), *numbers(self.memory)]
            yield [*bar(self.memory, NARROW_BAR), ("  ", ""), *numbers(self.memory)]
            yield [*bar(self.memory, NARROW_BAR), (f"  {size(self.memory.free, brief=True)} free", "$faint")]
        yield []


def gauge(used: int, total: int) -> list[Styled]:
    """How full the context is; from 85% on with a mark, since not everybody sees colours."""
    share = used / total
    if share < NOTICED:
        return []
    told = f"ctx {min(100, round(100 * share))}%"
    return [(f"! {told}", "bold $warning")] if share >= WARN else [(told, "$faint")]


def numbers(memory: Memory) -> list[Styled]:
    """Each with the sign that it has in the bar."""
    return [
        (f"{SIGNS['weights']} {size(memory.weights, brief=True)}", "$primary"),
        (" weights  ", "$faint"),
        (f"{SIGNS['cache']} {size(memory.cache, brief=True)}", "$secondary"),
        (" KV  ", "$faint"),
        (size(memory.free, brief=True), "$foreground"),
        (" free", "$faint"),
    ]


def bar(memory: Memory, cells: int) -> list[Styled]:
    """Weights, what sequences remember, what everything else holds, and what is free; without colours too."""
    total = max(1, memory.total)
    weights = share(memory.weights, total, cells)
    cache = min(cells - weights, share(memory.cache, total, cells))
    free = min(cells - weights - cache, round(cells * memory.free / total))
    other = max(0, cells - weights - cache - free)
    parts = [
        (SIGNS["weights"] * weights, "$primary"),
        (SIGNS["cache"] * cache, "$secondary"),
        (SIGNS["other"] * other, "$mark"),
        (SIGNS["free"] * free, "$mark"),
    ]
    return [(text, style) for text, style in parts if text]


def share(part: int, total: int, cells: int) -> int:
    """Something that is there gets a cell, however small."""
    return min(cells, max(1, round(cells * part / total))) if part > 0 else 0
