"""All keys."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from .dialog import Dialog

KEYS: tuple[tuple[str, str], ...] = (
    ("enter", "send"),
    ("ctrl+j", "new line (shift+enter too, where the terminal tells it apart)"),
    ("up", "in an empty prompt: change your last message (ctrl+e too)"),
    ("esc", "stop the answer, or take a message back that waits"),
    ("ctrl+r", "answer again"),
    ("ctrl+t", "fold or unfold the reasoning"),
    ("pgup pgdn", "scroll; at the bottom it follows the answer"),
    ("ctrl+n", "new session"),
    ("ctrl+o", "sessions: search, rename, delete"),
    ("ctrl+l", "models"),
    ("ctrl+p", "every command; light and dark are among them"),
    ("ctrl+q", "quit; everything is saved"),
)


class HelpScreen(Dialog[None]):
    AUTO_FOCUS = "VerticalScroll"

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box") as box:
            box.border_title, box.border_subtitle = "Keys", "esc closes"
            for key, what in KEYS:
                with Horizontal(classes="row"):
                    yield Static(Content(key), classes="key")
                    yield Static(Content(what), classes="what")
