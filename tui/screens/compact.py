"""The conversation summed up by the model: shown, changed if need be, and only then used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static, TextArea

from mlxrun.core import Finish

from ..answer import AnswerReader, Batch
from ..text import typed, visible
from .dialog import Dialog

if TYPE_CHECKING:
    from mlxrun.client import PieceSource

PAINT_SECONDS = 0.15
WRITING = "the model writes · esc closes, nothing changes"
WRITTEN = "change it as you like · ctrl+s uses it · esc closes"
ASKED = (
    "Sum up our conversation so far for yourself, so that it can go on from your summary alone: what I want, what was "
    "found and decided, names, numbers and code that matter, and what is open. Write nothing but the summary."
)


class CompactScreen(Dialog[str]):
    """Gives the summary."""

    AUTO_FOCUS = "TextArea"
    BINDINGS = [Binding("ctrl+s", "use", "Use it", show=False, priority=True)]  # noqa: RUF012 Textual's own way

    def __init__(self, ask: Callable[[], PieceSource]) -> None:
        super().__init__()
        self._reader = AnswerReader(ask)
        self._ended = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title, box.border_subtitle = "A summary in place of the conversation", WRITING
            yield TextArea(read_only=True, soft_wrap=True, classes="summary")
            yield Static(classes="empty", markup=False)

    def on_mount(self) -> None:
        self.query_one(".empty").display = False
        self.query_one(TextArea).cursor_blink = False
        self._reader.start()
        self.follow()

    @work
    async def follow(self) -> None:
        area, batch = self.query_one(TextArea), Batch()
        while batch.finish is None:
            await asyncio.sleep(PAINT_SECONDS)
            batch = self._reader.take()
            if batch.content:
                area.insert(typed(batch.content), area.document.end)
                area.scroll_end(animate=False)
        self._ended, area.read_only = True, False
        if batch.finish not in (Finish.STOP, Finish.LENGTH, Finish.CANCELLED):
            told = self.query_one(".empty", Static)
            told.display = True
            told.update(Content(visible(batch.reason or "There was no answer.")))
        self.query_one(".box").border_subtitle = WRITTEN

    def action_use(self) -> None:
        text = self.query_one(TextArea).text.strip()
        if self._ended and text:
            self.dismiss(text)

    def on_unmount(self) -> None:
        self._reader.cancel()
