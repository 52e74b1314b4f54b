"""The saved sessions: search, open, rename, delete, and take a deletion back."""

from __future__ import annotations

import time

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ..sessions import Sessions, Summary
from ..text import ago, excerpt, one_line
from .dialog import Dialog

HINTS = "enter opens · ctrl+r renames · ctrl+d deletes"
SHORT_HINTS = "ctrl+r rename · ctrl+d delete"
UNDO_HINTS = "deleted · ctrl+z brings it back"
PASSAGES = 30  # sessions that are shown with the passage that was found
RENAME_HINTS = "enter renames · esc leaves it"


class SessionsScreen(Dialog[int]):
    """Gives the session to open."""

    AUTO_FOCUS = "#search"
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("ctrl+r", "rename", "Rename", show=False, priority=True),
        Binding("ctrl+d", "delete", "Delete", show=False, priority=True),
        Binding("ctrl+z", "undo", "Undo", show=False, priority=True),
    ]

    def __init__(self, sessions: Sessions, current: int | None) -> None:
        super().__init__()
        self._sessions, self._current = sessions, current
        self._found: list[Summary] = []
        self._deleted: list[int] = []
        self._renamed: Summary | None = None

    @property
    def _hints(self) -> str:
        return HINTS if self.app.size.width >= len(HINTS) + 12 else SHORT_HINTS

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title, box.border_subtitle = "Sessions", self._hints
            yield Input(placeholder="Search titles and messages", id="search", compact=True)
            yield Input(id="rename", compact=True)
            yield OptionList(markup=False)
            yield Static(classes="empty", markup=False)

    def on_mount(self) -> None:
        self.query_one("#rename").display = False
        self.query_one(OptionList).can_focus = False
        self.call_after_refresh(self.look)

    @on(Input.Changed, "#search")
    def look(self) -> None:
        words = self.query_one("#search", Input).value
        options, empty = self.query_one(OptionList), self.query_one(".empty", Static)
        marked = options.highlighted or 0
        self._found = [found for found in self._sessions.find(words) if found.turns or found.draft or found.title]
        options.clear_options()
        width = options.size.width
        word = next((word for word in words.split() if not word.startswith("#")), "")
        options.add_options(
            [
                Option(self._with_passage(self._line(found, width), found, word if at < PASSAGES else "", width))
                for at, found in enumerate(self._found)
            ]
        )
        options.display, empty.display = bool(self._found), not self._found
        empty.update(Content("Nothing has these words." if words else "What you write is kept here."))
        options.highlighted = min(marked, len(self._found) - 1) if self._found else None

    def _line(self, found: Summary, width: int) -> Content:
        width = (width or self.app.size.width - 12) - 2
        tags = "".join(f"#{tag} " for tag in found.tags.split())
        detail = one_line(tags, max(0, width // 3)) + " " * bool(tags) + ago(max(0.0, time.time() - found.changed))
        title = found.title or f"Draft: {one_line(found.draft)}"
        title = one_line(title, max(8, width - len(detail) - 4))
        gap = " " * max(2, width - Content(title).cell_length - len(detail) - 2)
        dot = ("● ", "$success") if found.id == self._current else ("  ", "")
        return Content.assemble(dot, title, gap, (detail, "$faint"))

    def _with_passage(self, line: Content, found: Summary, word: str, width: int) -> Content:
        """What stands round the word that was looked for."""
        passage = self._sessions.passage(found.id, word) if word else ""
        if not passage:
            return line
        return Content.assemble(line, ("\n    " + excerpt(passage, word, max(12, width - 8)), "$faint"))

    def _chosen(self) -> Summary | None:
        at = self.query_one(OptionList).highlighted
        return None if at is None or at >= len(self._found) else self._found[at]

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        (options.action_cursor_down if step > 0 else options.action_cursor_up)()

    @on(Input.Submitted, "#search")
    @on(OptionList.OptionSelected)
    def choose(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self.dismiss(chosen.id)

    def action_delete(self) -> None:
        chosen = self._chosen()
        if chosen is not None and self._renamed is None:
            self._sessions.delete(chosen.id)
            self._deleted.append(chosen.id)
            self._told(UNDO_HINTS)

    def action_undo(self) -> None:
        if self._deleted:
            self._sessions.delete(self._deleted.pop(), undo=True)
            self._told(UNDO_HINTS if self._deleted else self._hints)

    def action_rename(self) -> None:
        self._renamed = self._chosen()
        if self._renamed is not None:
            self._swap("rename", self._renamed.title)
            self._told(RENAME_HINTS)

    @on(Input.Submitted, "#rename")
    def rename(self, event: Input.Submitted) -> None:
        if self._renamed is not None and event.value.strip():
            self._sessions.rename(self._renamed.id, event.value)
        self._leave_rename()

    def action_close(self) -> None:
        if self._renamed is not None:
            self._leave_rename()
        else:
            self.dismiss(None)

    def _leave_rename(self) -> None:
        self._renamed = None
        self._swap("search")
        self._told(self._hints)

    def _swap(self, shown: str, value: str | None = None) -> None:
        for field in self.query(Input):
            field.display = field.id == shown
        field = self.query_one(f"#{shown}", Input)
        if value is not None:
            field.value = value
        field.focus()

    def _told(self, hints: str) -> None:
        self.query_one(".box").border_subtitle = hints
        self.look()
