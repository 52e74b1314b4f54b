"""All keys."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ..commands import ORDERS, told
from .dialog import Dialog

KEYS: tuple[tuple[str, str], ...] = (
    ("enter", "send"),
    ("ctrl+j", "new line (shift+enter too, where the terminal tells it apart)"),
    ("up", "in an empty prompt: change your last message"),
    ("esc", "stop the answer, or take a message back that waits (ctrl+c too)"),
    ("ctrl+r", "answer again; the other answer stays as a branch"),
    ("shift+tab", "choose a message; then up and down, and:"),
    ("[ ]", "the branches that begin there"),
    ("c b s", "copy it; copy its last block of code, save it"),
    ("e r q", "edit it, answer again, quote it"),
    ("f d", "a new session up to it; delete it and what follows"),
    ("/", "commands; tab completes them"),
    ("@file", "the file goes along; a long paste is a chip"),
    ("ctrl+g", "lens: how likely each token was; walk, go on from another one"),
    ("ctrl+e", "in an empty prompt: memory and engine, live"),
    ("ctrl+t", "fold or unfold the reasoning"),
    ("pgup pgdn", "scroll; at the bottom it follows the answer"),
    ("ctrl+n", "new session"),
    ("ctrl+o", "sessions: search, rename, delete"),
    ("f2", "on a wide screen: the sessions beside"),
    ("ctrl+l", "models"),
    ("ctrl+p", "every command; light and dark are among them"),
    ("ctrl+q", "quit; everything is saved"),
)


class HelpScreen(Dialog[None]):
    AUTO_FOCUS = "VerticalScroll"

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box") as box:
            box.border_title, box.border_subtitle = "Keys", "esc closes"
            for key, what in (*KEYS, *((f"/{order.name}", told(order)) for order in ORDERS)):
                with Horizontal(classes="row"):
                    yield Static(Content(key), classes="key")
                    yield Static(Content(what), classes="what")
