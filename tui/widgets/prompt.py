"""Where a person writes: Enter sends, Ctrl+J or Shift+Enter begins a new line, Up in an empty prompt edits.

A long paste is a chip: [paste 1] in the text, the whole in `files`.
"""

from __future__ import annotations

from pathlib import Path

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import TextArea

from ..attach import PASTED, Attached, is_long, read, written
from ..commands import Completion, complete
from ..messages import DraftChanged, EditAsked, Submitted
from ..text import counted, one_line, typed
from .completions import CompletionList

NEWLINE_KEYS = ("shift+enter", "ctrl+j", "alt+enter")
ENTER_SENDS = "enter sends · ctrl+j new line"
COMPLETING_KEYS = ("tab", "up", "down", "escape", "enter")


class Prompt(TextArea):
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("pageup", "screen.scroll('up')", "Scroll up", show=False),
        Binding("pagedown", "screen.scroll('down')", "Scroll down", show=False),
        Binding("shift+tab,ctrl+up", "screen.choose_last", "Messages", show=False),
    ]
    editing: reactive[bool] = reactive(False, toggle_class="-editing")
    hint: reactive[str] = reactive("")

    def __init__(self) -> None:
        super().__init__(id="prompt", soft_wrap=True, show_line_numbers=False, tab_behavior="focus")
        self.highlight_cursor_line = False
        self.cursor_blink = False  # a blink is two paints a second, for as long as nothing happens
        self.completions: CompletionList | None = None
        self.models: tuple[str, ...] = ()  # that can be named
        self.presets: tuple[str, ...] = ()
        self.files: list[Attached] = []
        self._put_away = ""  # for that text nothing is offered

    def on_mount(self) -> None:
        self.show_hints()

    @property
    def files_written(self) -> str:
        return written(self.files)

    def load(self, text: str, files: str = "") -> None:
        """Put a text in, as if it had been typed."""
        self.files = read(files)
        self.text = typed(text)
        self.move_cursor(self.document.end)
        self.show_hints()

    def take(self, sent: str) -> None:
        """That was sent; what was typed after it stays."""
        self.load(self.text.removeprefix(sent), self.files_written if self.files else "")

    def give_back(self, text: str, files: str) -> None:
        """Before what was typed meanwhile."""
        since = self.files
        self.load("\n\n".join(filter(None, (text, self.text))))
        self.files = [*read(files), *since]
        self.show_hints()

    def show_hints(self) -> None:
        chips = [f"▣ {one_line(Path(file.name).name, 24)} {counted(file.tokens, 'token')}" for file in self.files]
        self.border_subtitle = Content(" · ".join(chips) if chips else ENTER_SENDS)

    def watch_hint(self, hint: str) -> None:
        self.placeholder = Content(hint)

    def watch_editing(self, editing: bool) -> None:
        told = "editing: the old message stays as a branch · esc leaves it" if editing else ""
        self.border_title = Content(told)

    def action_send(self) -> None:
        if self.text.strip():
            named = [file for file in self.files if f"[{file.name}]" in self.text or not file.name.startswith("paste ")]
            self.post_message(Submitted(self.text, tuple(named)))

    def action_newline(self) -> None:
        self._replace_via_keyboard("\n", *self.selection)

    def action_cursor_up(self, select: bool = False) -> None:
        if self.text or select:
            super().action_cursor_up(select)
        else:
            self.post_message(EditAsked())

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.post_message(DraftChanged(self.text))
        self._offer()

    async def _on_key(self, event: events.Key) -> None:
        """In the order of typing: a binding with priority would overtake letters that are not in the text yet."""
        marked = self.completions.marked if self.completions is not None else None
        if marked is not None and event.key in COMPLETING_KEYS and self._completed(event.key, marked):
            event.stop()
            event.prevent_default()
            return
        if event.key not in ("enter", *NEWLINE_KEYS):
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        (self.action_send if event.key == "enter" else self.action_newline)()

    def action_cursor_line_end(self, select: bool = False) -> None:
        if self.text or select:
            super().action_cursor_line_end(select)
        else:
            self.run_worker(self.app.run_action("app.engine"))  # Ctrl+E; in a text it goes to the end of the line

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        text = typed(event.text)
        if is_long(text):
            name = PASTED.format(1 + sum(file.name.startswith("paste ") for file in self.files))
            self.files.append(Attached(name.strip("[]"), text))
            self.show_hints()
            text = name
        await super()._on_paste(events.Paste(text))

    def _offer(self) -> None:
        """What the word before the cursor could become."""
        if self.completions is None:
            return
        found: list[Completion] = []
        if self.text[:1] == "/" or "@" in self.text:
            row, column = self.cursor_location
            at = sum(len(self.document.get_line(line)) + 1 for line in range(row)) + column
            found = complete(self.text, at, Path.cwd(), self.models, self.presets)
        self.completions.offer(() if self.text == self._put_away else found)
        self._put_away = ""

    def _completed(self, key: str, marked: Completion) -> bool:
        """Whether the key was for what is offered. Enter sends what is whole."""
        assert self.completions is not None
        if key in ("up", "down"):
            self.completions.move(1 if key == "down" else -1)
            return True
        if key == "escape":
            self.completions.offer(())
            return True
        row, column = self.cursor_location
        line_start = sum(len(self.document.get_line(line)) + 1 for line in range(row))
        typed_word = self.text[marked.start : line_start + column]
        if key == "enter" and (typed_word == marked.text or not marked.text.startswith("/")):
            self.completions.offer(())
            return False
        new = marked.text + ("" if marked.text.endswith("/") else " ")
        self.replace(new, (row, marked.start - line_start), (row, column))
        if key == "enter" and marked.whole:
            self.action_send()
        return True
