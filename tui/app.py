"""The app: it owns the client, the sessions and the model's state, and hands them to its screens.

The first picture is painted before the client is even imported; a model loads on a thread behind it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import SuspendNotSupported, SystemCommand
from textual.screen import Screen

from . import clipboard
from .backend import Backend, Joining, ModelChoice, ModelState, ThisMachine
from .messages import LinkAsked
from .screens.chat import ChatScreen
from .sessions import Sessions, default_place
from .settings_app import SettingsApp
from .talk import Talk
from .toolbox import McpToolbox
from .wishes import Wishes

if TYPE_CHECKING:
    from .imports import Imported

MEMORY_SECONDS = 1.0  # between two looks at the memory
TOLD_SECONDS = 6.0
PRESET = "preset."  # before the names of presets among the settings


class Chat(SettingsApp):
    TITLE = "mlxrun"
    CSS_PATH = Path(__file__).with_name("app.tcss")
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (28, "-narrow"), (60, "-normal"), (104, "-wide"), (140, "-railed")]  # noqa: RUF012 Textual's own way
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (8, "-short"), (18, "-tall")]  # noqa: RUF012 Textual's own way
    COMMAND_PALETTE_DISPLAY = "ctrl+p"

    def __init__(
        self,
        backend: Backend | None = None,
        sessions: Path | None = None,
        model: str | None = None,
        toolbox: McpToolbox | None = None,
        settings: Path | None = None,
    ) -> None:
        """`model`: with which it begins, in a session of its own."""
        super().__init__(backend or ThisMachine(), toolbox or McpToolbox(), settings)
        self._place, self._first = sessions or default_place(), model

    def get_default_screen(self) -> Screen[None]:
        return ChatScreen(self)

    @property
    def chat(self) -> ChatScreen:
        screen = self.screen_stack[0]
        assert isinstance(screen, ChatScreen)
        return screen

    def on_mount(self) -> None:
        self.model = ModelState(since=time.monotonic())
        self.call_after_refresh(self.begin)

    async def begin(self) -> None:
        """After the first picture: the sessions, then the model."""
        self.sessions = Sessions.open(self._place)
        if self.sessions.trouble:
            self.tell(self.sessions.trouble, warning=True)
        self.settle()
        if self.sessions.alone:
            self.sessions.purge()
        await self.open_session(None if self._first else self.session_to_return_to())
        self.open_model(ModelChoice(self._first, join=Joining.SAME) if self._first else None)
        self.set_interval(MEMORY_SECONDS, self.look_when_due)

    def session_to_return_to(self) -> int | None:
        """Where the person left, unless another terminal is there now."""
        last = self.sessions.setting("session")
        if not self.sessions.alone or last is None or self.sessions.get(int(last)) is None:
            return None
        return int(last)

    async def open_session(self, session: int | None) -> None:
        self.chat.know_names()
        await self.chat.open(Talk(self.sessions, session))
        self.sessions.remember("session", str(session or 0))

    def change_model(self, choice: ModelChoice | None) -> None:
        if choice is None:
            self.action_models()
        else:
            self.chat.leave()
            self.open_model(choice)

    def unload(self) -> None:
        if self.client is None or self.model.server is not None:
            whose = (
                "The server keeps its models; 'mlxrun stop NAME' has it unload one."
                if self.client
                else "No model is loaded."
            )
            self.tell_once(whose)
        elif self.chat.busy:
            self.tell_once("One answer at a time: Esc stops this one.")
        else:
            self.unload_model("You unloaded it.")

    # dialogs

    def action_sessions(self) -> None:
        from .screens.sessions import SessionsScreen

        async def then(session: int | None) -> None:
            talk = self.chat.talk
            if session is not None and talk is not None and session != talk.session:
                await self.open_session(session)
            elif talk is not None and not talk.exists:
                await self.open_session(None)
            elif talk is not None:
                talk.refresh()
                self.chat.show_title()

        talk = self.chat.talk
        self.push_screen(SessionsScreen(self.sessions, talk.session if talk else None), then)

    def action_models(self) -> None:
        from .screens.models import ModelsScreen

        def then(choice: ModelChoice | None) -> None:
            if choice is not None:
                self.change_model(choice)

        client, server = self.client, self.model.server
        self.push_screen(ModelsScreen(self, lambda: self.backend.choices(client, server)), then)

    def action_engine(self) -> None:
        from .screens.engine import EngineScreen

        self.push_screen(EngineScreen(lambda: self.client))

    def action_help(self) -> None:
        from .screens.help import HelpScreen

        self.push_screen(HelpScreen())

    @on(LinkAsked)
    def ask_about_link(self, event: LinkAsked) -> None:
        from .screens.link import LinkScreen

        href = event.href

        def then(what: str | None) -> None:
            if what == "open":
                self.open_url(href)
            elif what == "copy":
                self.run_worker(self.copy(href, "The link"))

        self.push_screen(LinkScreen(href), then)

    # small things

    def tell(self, sentence: str, *, warning: bool = False) -> None:
        from .text import visible

        seconds = TOLD_SECONDS * (2 if warning else 1)
        self.notify(visible(sentence), severity="warning" if warning else "information", markup=False, timeout=seconds)

    def tell_once(self, sentence: str) -> None:
        self.clear_notifications()
        self.tell(sentence)

    def action_help_quit(self) -> None:
        """Ctrl+C in a dialog."""
        self.tell_once("ctrl+q quits; esc closes this.")

    def copy_selected(self, text: str) -> None:
        self.run_worker(self.copy(text, "What you selected"))

    def copy_to_clipboard(self, text: str) -> None:
        """Textual calls this, for what is selected."""
        self.run_worker(self.copy(text, "What you selected"))

    async def copy(self, text: str, what: str) -> None:
        if await asyncio.to_thread(clipboard.copy, text, os.environ):
            self.tell(f"{what} is in the clipboard.")
            return
        super().copy_to_clipboard(text)
        self.tell(f"{what} was handed to the terminal, which may or may not put it into the clipboard.")

    @contextmanager
    def told_if_unsaved(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self.tell(f"This could not be saved: {error}.", warning=True)

    def presets(self) -> dict[str, str]:
        return self.sessions.settings(PRESET)

    def keep_preset(self, name: str, wishes: str | None) -> None:
        self.sessions.remember(f"{PRESET}{name}", wishes) if wishes is not None else self.sessions.forget(
            f"{PRESET}{name}"
        )
        self.chat.know_names()

    def edit_text(self, text: str) -> str | None:
        from .screens.orders import edit_here

        try:
            with self.suspend():
                return edit_here(text)
        except SuspendNotSupported:
            self.tell("This terminal cannot be lent to an editor.", warning=True)
            return None

    def take_in(self, found: Sequence[Imported]) -> None:
        for one in found:
            session, parent = self.sessions.create(), None
            for turn in one.turns:
                parent = self.sessions.add(session, turn, parent)
            self.sessions.rename(session, one.title)
            self.sessions.wish(session, Wishes(system=one.system).written())

    async def action_quit(self) -> None:
        self.chat.leave()
        self.exit()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        chat = self.chat
        commands: tuple[tuple[str, str, Callable[[], object]], ...] = (
            ("New session", "Begin anew (ctrl+n)", chat.action_new),
            ("Sessions", "Search, open, rename, delete (ctrl+o)", self.action_sessions),
            ("Models", "Change to another model (ctrl+l)", self.action_models),
            ("Memory and engine", "Live (ctrl+e in an empty prompt)", self.action_engine),
            ("Lens", "How likely each token was (ctrl+g)", chat.action_lens),
            ("Edit the last message", "Change it and send it again (up in an empty prompt)", chat.action_edit),
            ("Answer again", "Another answer, beside the one that is there (ctrl+r)", chat.action_retry),
            ("Stop", "End the answer; the text so far stays (esc)", chat.action_stop),
            ("Reasoning", "Fold or unfold the last reasoning (ctrl+t)", chat.action_reasoning),
            ("Copy the last answer", "As it was written, in Markdown", chat.action_copy),
            ("Messages", "Choose one by key: copy, quote, edit, branches (shift+tab)", chat.action_choose_last),
            ("Light or dark", "Change the colours, for the next time too", self.action_toggle_light),
            ("Keys", "All keys (f1)", self.action_help),
            ("Quit", "All is saved (ctrl+q)", self.action_quit),
        )
        for title, what, action in commands:
            yield SystemCommand(title, what, action)


def run(model: str | None = None) -> int:
    """Until the person quits. `model`: with which it begins."""
    app = Chat(model=model)
    app.run()
    app.fetches.stop_all()
    app.toolbox.close()
    sessions = getattr(app, "sessions", None)  # none, if it ended before the first picture
    if sessions is not None:
        if sessions.alone:
            sessions.purge()
        sessions.close()
    if not app.loading.acquire(blocking=False):
        os._exit(app.return_code or 0)  # a model is being loaded: the interpreter would wait for it, or tear it apart
    if app.client is not None:
        app.client.close()
    return app.return_code or 0
