"""Where a person writes: Enter sends, Ctrl+J or Shift+Enter begins a new line, Up in an empty prompt edits."""

from __future__ import annotations

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import TextArea

from ..messages import DraftChanged, EditAsked, Submitted
from ..text import typed

NEWLINE_KEYS = ("shift+enter", "ctrl+j", "alt+enter")
ENTER_SENDS = "enter sends · ctrl+j new line"


class Prompt(TextArea):
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("pageup", "screen.scroll('up')", "Scroll up", show=False),
        Binding("pagedown", "screen.scroll('down')", "Scroll down", show=False),
    ]
    editing: reactive[bool] = reactive(False, toggle_class="-editing")
    hint: reactive[str] = reactive("")

    def __init__(self) -> None:
        super().__init__(id="prompt", soft_wrap=True, show_line_numbers=False, tab_behavior="focus")
        self.highlight_cursor_line = False

    def on_mount(self) -> None:
        self.border_subtitle = Content(ENTER_SENDS)

    def load(self, text: str) -> None:
        """Put a text in, as if it had been typed."""
        self.text = typed(text)
        self.move_cursor(self.document.end)

    def take(self, sent: str) -> None:
        """That was sent; what was typed after it stays."""
        self.load(self.text.removeprefix(sent))

    def watch_hint(self, hint: str) -> None:
        self.placeholder = Content(hint)

    def watch_editing(self, editing: bool) -> None:
        self.border_title = Content("editing your last message · esc leaves it as it was" if editing else "")

    def action_send(self) -> None:
        if self.text.strip():
            self.post_message(Submitted(self.text))

    def action_newline(self) -> None:
        self._replace_via_keyboard("\n", *self.selection)

    def action_cursor_up(self, select: bool = False) -> None:
        if self.text or select:
            super().action_cursor_up(select)
        else:
            self.post_message(EditAsked())

    def action_cursor_line_end(self, select: bool = False) -> None:
        if self.text or select:
            super().action_cursor_line_end(select)
        else:
            self.post_message(EditAsked())  # Ctrl+E; in a text it goes to the end of the line

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.post_message(DraftChanged(self.text))

    async def _on_key(self, event: events.Key) -> None:
        """In the order of typing: a binding with priority would overtake letters that are not in the text yet."""
        if event.key not in ("enter", *NEWLINE_KEYS):
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        (self.action_send if event.key == "enter" else self.action_newline)()

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        await super()._on_paste(events.Paste(typed(event.text)))
