"""The line above a conversation: which model, where it runs, what it is doing; and which session this is."""

from __future__ import annotations

import time

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from ..backend import ModelState, Phase
from ..text import one_line, size, visible

DOTS = {Phase.READY: "●", Phase.OPENING: "◌", Phase.RESTING: "○", Phase.FAILED: "✗", Phase.LOST: "✗"}
COLOURS = {
    Phase.READY: "$success",
    Phase.OPENING: "$warning",
    Phase.RESTING: "$faint",
    Phase.FAILED: "$error",
    Phase.LOST: "$error",
}
DOING = {Phase.RESTING: "unloaded", Phase.FAILED: "not loaded", Phase.LOST: "its server left"}
SHORTEST_TITLE = 8
EDGE = 4  # cells of padding, both sides together


class StatusLine(Widget):
    model: reactive[ModelState] = reactive(ModelState())
    session: reactive[str] = reactive("")

    def on_mount(self) -> None:
        self._clock = self.set_interval(1.0, self.refresh, pause=True)

    def watch_model(self, model: ModelState) -> None:
        if self.is_mounted:
            (self._clock.resume if model.phase is Phase.OPENING else self._clock.pause)()

    def render(self) -> Content:
        model = self.model
        name = one_line(visible(model.name) or "mlxrun", max(10, self.size.width - 24))
        left = Content.assemble(
            (f"{DOTS[model.phase]} ", COLOURS[model.phase]), (name, "bold"), ("  " + self._doing(), "$faint")
        )
        room = self.size.width - left.cell_length - 2
        title = one_line(self.session, room) if room >= SHORTEST_TITLE else ""
        gap = " " * max(0, self.size.width - left.cell_length - Content(title).cell_length)
        return Content.assemble(left, gap, (title, "$faint")).truncate(self.size.width)

    def _doing(self) -> str:
        model = self.model
        if model.phase is Phase.OPENING:
            bytes_told = f"{size(model.done)} of {size(model.total)} · " if model.total else ""
            return f"loading {bytes_told}{max(0, time.monotonic() - model.since):.0f} s"
        if model.phase is Phase.READY:
            return f"on {visible(model.server).removeprefix('http://')}" if model.server else "in this process"
        return DOING[model.phase]
