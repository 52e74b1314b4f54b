"""Memory and engine, live: where the bytes are, what was read from memory, who waits, how fast it goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ..backend import BROKEN
from ..text import size
from ..widgets.meter import SIGNS, bar
from .dialog import Dialog

if TYPE_CHECKING:
    from mlxrun.client import Client
    from mlxrun.core import Memory

SECONDS = 1.0  # between two looks
KEPT = 120  # looks
BARS = "▁▂▃▄▅▆▇█"
Numbers = Mapping[str, float]


class EngineScreen(Dialog[None]):
    AUTO_FOCUS = "VerticalScroll"

    def __init__(self, client: Callable[[], Client | None]) -> None:
        super().__init__()
        self._client = client
        self._before: tuple[float, Numbers] | None = None
        self._written: deque[float] = deque(maxlen=KEPT)  # tokens a second
        self._read: deque[float] = deque(maxlen=KEPT)

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box") as box:
            box.border_title, box.border_subtitle = "Memory and engine", "esc closes"
            yield Static("Looking …", classes="numbers", markup=False)

    def on_mount(self) -> None:
        self.look()
        self.set_interval(SECONDS, self.look)

    @work(thread=True, exclusive=True)
    def look(self) -> None:
        client = self._client()
        try:
            memory = client.memory() if client is not None else None
            statistics = client.statistics() if client is not None else None
        except BROKEN:
            memory = statistics = None
        if self.is_mounted:
            self.app.call_from_thread(self.show, memory, statistics)

    def show(self, memory: Memory | None, statistics: Mapping[str, Any] | None) -> None:
        if not self.is_mounted:
            return
        width = max(20, self.query_one(".numbers").size.width)
        parts: list[Content] = []
        if memory is not None:
            parts += memory_lines(memory, width)
        if statistics is not None:
            self._count(statistics["totals"])
            parts += [Content(""), *engine_lines(statistics, list(self._read), list(self._written), width)]
        elif memory is not None:
            parts += [Content(""), Content("A server's engine is told at its /metrics.").stylize("$faint")]
        said = Content("\n").join(parts) if parts else Content("There is no model yet.")
        self.query_one(".numbers", Static).update(said)

    def _count(self, totals: Numbers) -> None:
        now = time.monotonic()
        if self._before is not None:
            then, before = self._before
            passed = max(now - then, 1e-3)
            for name, kept in (("output_tokens", self._written), ("prompt_tokens", self._read)):
                kept.append(max(0.0, totals.get(name, 0) - before.get(name, 0)) / passed)
        self._before = (now, dict(totals))


def memory_lines(memory: Memory, width: int) -> list[Content]:
    work_bytes = max(0, memory.active - memory.weights - memory.cache)
    other = max(0, memory.total - memory.free - memory.weights - memory.cache)
    rows = (
        (SIGNS["weights"], "weights", memory.weights, "$primary"),
        (SIGNS["cache"], "what sequences remember", memory.cache, "$secondary"),
        (" ", "of it kept for what may come", memory.prefix_cache, "$secondary"),
        (SIGNS["other"], "everything else on this machine", other, "$mark"),
        (" ", "of it what passes work with", work_bytes, "$mark"),
        (" ", "of it freed, kept for the next use", memory.freed, "$mark"),
        (SIGNS["free"], "free", memory.free, "$mark"),
    )
    lines = [Content.assemble(*bar(memory, width))]
    for sign, name, count, style in rows:
        line = Content.assemble((f"{sign} ", style), (f"{size(count):>9}  ", "$foreground"), (name, "$faint"))
        lines.append(line.truncate(width, ellipsis=True))
    return lines


def engine_lines(told: Mapping[str, Any], read: list[float], written: list[float], width: int) -> list[Content]:
    totals, now = told["totals"], told["now"]
    prompt, cached = totals.get("prompt_tokens", 0), totals.get("cached_tokens", 0)
    lines = [
        spark("tokens written a second", written, width),
        spark("prompt tokens read a second", read, width),
        fact("read of prompts", f"{prompt:,.0f} tokens; {cached:,.0f} more were in memory already", width),
    ]
    if cached:
        lines.append(fact("prefix hits", f"{100 * cached / (prompt + cached):.0f}% of all prompt tokens", width))
    if drafted := totals.get("draft_drafted", 0):
        right = totals.get("draft_accepted", 0)
        lines.append(fact("drafts that were right", f"{100 * right / drafted:.0f}% of {drafted:,.0f}", width))
    shown = {**{name.replace("_", " "): value for name, value in now.items()}, "passes": totals.get("passes", 0)}
    return lines + [fact(name, number(value), width) for name, value in shown.items()]


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def fact(name: str, told: str, width: int) -> Content:
    return Content.assemble((f"{name:<28}" if width >= 50 else f"{name} ", "$faint"), told)


def spark(name: str, values: list[float], width: int) -> Content:
    room = max(8, width - 44) if width >= 50 else max(8, width - 34)
    shown, most = values[-room:], max([*values, 1e-9])
    signs = "".join(BARS[min(len(BARS) - 1, int(len(BARS) * value / most))] if value else "▁" for value in shown)
    last = f"{values[-1]:.1f} " if values else "- "
    return Content.assemble((f"{name:<28}", "$faint"), (last, "$foreground"), (signs, "$secondary"))
