"""What a model thought before it answered: folded to one line that counts its seconds, unfolded on a click."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from ..markdown import plain
from .document import Document

FOLDED, UNFOLDED = "▸", "▾"


class Title(Static, can_focus=True):
    BINDINGS = [Binding("enter,space", "fold", "Fold or unfold", show=False)]  # noqa: RUF012 Textual's own way
    ALLOW_SELECT = False

    def action_fold(self) -> None:
        self.query_ancestor(Reasoning).toggle()

    def on_click(self) -> None:
        self.action_fold()


class Reasoning(Vertical):
    seconds: reactive[float] = reactive(0.0)
    running: reactive[bool] = reactive(False)
    unfolded: reactive[bool] = reactive(False, toggle_class="-unfolded")

    def __init__(self, text: str = "", seconds: float = 0.0) -> None:
        """`text` is safe to show."""
        super().__init__()
        self._text = text
        self.set_reactive(Reasoning.seconds, seconds)
        self.display = bool(text)

    def compose(self) -> ComposeResult:
        yield Title(self._title())
        yield Document(read=plain, classes="thoughts")

    def add(self, text: str) -> None:
        self._text += text
        self.display = bool(self._text.strip())
        self._paint()

    def toggle(self) -> None:
        self.unfolded = not self.unfolded

    def watch_unfolded(self) -> None:
        self._paint()

    def watch_seconds(self) -> None:
        self._paint_title()

    def watch_running(self) -> None:
        self._paint_title()

    def _paint(self) -> None:
        self._paint_title()
        if self.unfolded and self.is_mounted:
            self.query_one(".thoughts", Document).show(self._text.strip())

    def _paint_title(self) -> None:
        if self.is_mounted and self.query(Title):
            self.query_one(Title).update(self._title())

    def _title(self) -> Content:
        said = "Thinking" if self.running else "Thought"
        time = f"{self.seconds:.0f} s" if self.seconds >= 1 else "a moment"
        return Content(f"{UNFOLDED if self.unfolded else FOLDED} {said}{'' if self.running else ' for'} {time}")
