"""Some lines that are read and closed."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ..text import visible
from .dialog import Dialog


class ToldScreen(Dialog[None]):
    AUTO_FOCUS = "VerticalScroll"

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box") as box:
            box.border_title, box.border_subtitle = self._title, "esc closes"
            yield Static(Content(visible(self._text)), classes="numbers", markup=False)
