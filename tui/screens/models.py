"""The models that can be picked: those of the server that was joined, those on this machine, those known by name.

What is typed filters them; a path or org/name that none of them has is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ..backend import BROKEN, Backend, ModelChoice
from ..text import one_line, size, visible
from .dialog import Dialog

HINTS = "enter changes to it · ctrl+d details · ctrl+f frees its copies"
SHORT_HINTS = "ctrl+d details · esc"
BADGES = {True: ("✓", "$success"), False: ("✗ too large", "$error"), None: ("", "$faint")}


class ModelsScreen(Dialog[ModelChoice]):
    """Gives the model to change to."""

    AUTO_FOCUS = "#filter"
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("ctrl+d", "details", "Details", show=False, priority=True),
        Binding("ctrl+f", "free", "Free copies", show=False, priority=True),
    ]

    def __init__(self, backend: Backend, look: Callable[[], list[ModelChoice]]) -> None:
        """`look` may take its time: it runs on a thread."""
        super().__init__()
        self._backend, self._look = backend, look
        self._choices: list[ModelChoice] = []
        self._shown: list[ModelChoice] = []
        self._none = "Looking …"

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = "Models"
            box.border_subtitle = HINTS if self.app.size.width >= len(HINTS) + 12 else SHORT_HINTS
            yield Input(placeholder="Filter, or a path, or org/name of the hub", id="filter", compact=True)
            yield OptionList(markup=False)
            yield Static("Looking …", classes="empty", markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        self.read()

    @work(thread=True)
    def read(self) -> None:
        try:
            choices = self._look()
        except BROKEN as error:
            self.app.call_from_thread(self.show, [], str(error))
        else:
            self.app.call_from_thread(self.show, choices, "No models are here.")

    def show(self, choices: list[ModelChoice], otherwise: str) -> None:
        self._choices, self._none = choices, otherwise
        self.call_after_refresh(self.fill, True)  # by then the list knows its width

    @on(Input.Changed, "#filter")
    def narrow(self) -> None:
        self.fill()

    def fill(self, to_open: bool = False) -> None:
        words = self.query_one("#filter", Input).value.casefold().split()
        self._shown = [one for one in self._choices if all(word in one.name.casefold() for word in words)]
        options = self.query_one(OptionList)
        options.display = bool(self._shown)
        options.clear_options()
        width = options.size.width or self.app.size.width - 12
        options.add_options([Option(self._line(choice, width)) for choice in self._shown])
        opened = [index for index, choice in enumerate(self._shown) if choice.open]
        options.highlighted = opened[0] if opened and to_open else 0 if self._shown else None
        self.tell("" if self._shown else f"enter opens {' '.join(words)}" if words and self._choices else self._none)

    def tell(self, sentence: str) -> None:
        told = self.query_one(".empty", Static)
        told.display = bool(sentence)
        told.update(Content(visible(sentence)))

    def _line(self, choice: ModelChoice, width: int) -> Content:
        width -= 2
        where = "on the server" if choice.server else size(choice.bytes) if choice.bytes else ""
        where = where if choice.here else f"{where} to fetch" if where else "fetched when first used"
        detail = f"open · {where}" if choice.open else where
        badge, colour = BADGES[choice.fits]
        room = len(detail) + (len(badge) + 2 if badge else 0)
        name = one_line(choice.name, max(8, width - room - 4))
        gap = " " * max(2, width - Content(name).cell_length - room - 2)
        dot = ("● ", "$success") if choice.open else ("  ", "")
        return Content.assemble(dot, name, gap, (detail, "$faint"), "  " if badge else "", (badge, colour))

    def _chosen(self) -> ModelChoice | None:
        at = self.query_one(OptionList).highlighted
        return None if at is None or at >= len(self._shown) else self._shown[at]

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        (options.action_cursor_down if step > 0 else options.action_cursor_up)()

    @on(Input.Submitted, "#filter")
    @on(OptionList.OptionSelected)
    def choose(self) -> None:
        chosen, written = self._chosen(), self.query_one("#filter", Input).value.strip()
        if chosen is not None:
            self.dismiss(None if chosen.open else chosen)
        elif written and self._choices:
            self.dismiss(ModelChoice(written, here=False))

    def action_details(self) -> None:
        if (chosen := self._chosen()) is not None:
            self.tell(f"Reading the headers of {chosen.name} …")
            self.look_into(chosen.name)

    def action_free(self) -> None:
        if (chosen := self._chosen()) is not None:
            self.free(chosen.name)

    @work(thread=True, exclusive=True)
    def look_into(self, name: str) -> None:
        try:
            found = self._backend.details(name)
        except BROKEN as error:
            self.app.call_from_thread(self.tell, str(error))
            return
        parts = [f"{name}: {found.family or 'a model'}, {found.layers} layers"]
        parts += [f"{found.bits:g} bits a weight"] if found.bits else []
        parts += [f"{size(found.bytes)} in memory"]
        parts += [f"fits with {found.context:,} of {found.longest:,} tokens" if found.fits else "does not fit here"]
        parts += [f"about {found.speed:.0f} tokens/s"] if found.speed else []
        parts += [f"{size(found.copies)} made of it on disk"] if found.copies else []
        self.app.call_from_thread(self.tell, ", ".join(parts) + ".")

    @work(thread=True, exclusive=True)
    def free(self, name: str) -> None:
        try:
            freed = self._backend.free_copies(name)
        except BROKEN as error:
            self.app.call_from_thread(self.tell, str(error))
            return
        said = f"{size(freed)} of copies of {name} are free again." if freed else f"There are no copies of {name}."
        self.app.call_from_thread(self.tell, said)
