"""A link of an answer is shown in full before anything is opened."""

from __future__ import annotations

from urllib.parse import urlsplit

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from ..text import visible
from .dialog import Dialog

OPENED = ("http", "https", "mailto")


def may_open(href: str) -> bool:
    """Only what a browser or a mail program takes; a file: or an unknown scheme could start anything."""
    try:
        return urlsplit(href).scheme in OPENED and visible(href) == href
    except ValueError:
        return False


class LinkScreen(Dialog[str]):
    """Gives "open" or "copy"."""

    AUTO_FOCUS = "#copy"

    def __init__(self, href: str) -> None:
        super().__init__()
        self._href = href

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = "Open this link?"
            yield Static(Content(visible(self._href) or "(it leads nowhere)"), classes="href", markup=False)
            with Horizontal(classes="buttons"):
                if may_open(self._href):
                    yield Button("Open", id="open")
                yield Button("Copy", id="copy")
                yield Button("Cancel", id="cancel")

    @on(Button.Pressed)
    def choose(self, event: Button.Pressed) -> None:
        self.dismiss(None if event.button.id == "cancel" else event.button.id)
