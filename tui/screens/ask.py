"""One line asked of a person."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from .dialog import Dialog


class AskScreen(Dialog[str]):
    """Gives what was written."""

    AUTO_FOCUS = "Input"

    def __init__(self, title: str, value: str = "") -> None:
        super().__init__()
        self._title, self._value = title, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title, box.border_subtitle = self._title, "enter takes it · esc closes"
            yield Input(self._value, compact=True)

    @on(Input.Submitted)
    def take(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)
