"""The latest sessions beside the conversation, where the screen is wide: f2 goes there, enter opens one, esc leaves."""

from __future__ import annotations

from collections.abc import Sequence

from textual.binding import Binding
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from ..sessions import Summary
from ..text import one_line

LATEST = 60
WIDTH = 28  # cells of a title


class SessionRail(OptionList):
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("escape,shift+tab", "leave", show=False),
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(markup=False, compact=True)
        self._shown: list[Summary] = []

    def show(self, found: Sequence[Summary], current: int | None) -> None:
        """Those, if anything is said in them; the one that is open has a dot."""
        shown = [one for one in found if one.turns or one.title]
        if shown == self._shown:
            return
        self._shown = shown
        self.clear_options()
        self.add_options([Option(line(one, one.id == current)) for one in shown])
        opened = [at for at, one in enumerate(shown) if one.id == current]
        self.highlighted = opened[0] if opened else None

    def session(self, at: int) -> int:
        return self._shown[at].id

    def action_leave(self) -> None:
        self.screen.query_one("#prompt").focus()


def line(found: Summary, current: bool) -> Content:
    dot = ("● ", "$success") if current else ("  ", "")
    return Content.assemble(dot, one_line(found.title or "Draft", WIDTH))
