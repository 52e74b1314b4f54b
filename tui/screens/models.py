"""The models that can be picked: those of the server that was joined, those on this machine, those known by name.

What is typed filters them; a path or org/name that none of them has is taken as it is, and ctrl+s searches the hub for
it. What is not here yet is fetched beside the model that runs, with a bar; ctrl+x stops that and enter goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ..backend import BROKEN, ModelChoice, Phase
from ..fetches import Fetching
from ..text import one_line, size, visible
from .dialog import Dialog

if TYPE_CHECKING:
    from ..host import Host

HINTS = "enter changes to it · ctrl+s searches the hub · ctrl+d details · ctrl+u unloads · f1"
SHORT_HINTS = "ctrl+s hub · ctrl+d details"
KEYS = (
    "enter changes to the model, or fetches it · ctrl+s searches the hub for what is written · ctrl+d tells details · "
    "ctrl+x stops what is fetched, enter goes on · ctrl+f frees copies · ctrl+u unloads what runs · esc closes"
)
BADGES = {True: ("✓", "$success"), False: ("✗ too large", "$error"), None: ("", "$faint")}
LOOK_SECONDS = 0.5  # between two looks at what is fetched
BAR = 10  # cells
WIDE = 44  # cells that a line needs for a bar


class ModelsScreen(Dialog[ModelChoice]):
    """Gives the model to change to."""

    AUTO_FOCUS = "#filter"
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("ctrl+d", "details", "Details", show=False, priority=True),
        Binding("ctrl+f", "free", "Free copies", show=False, priority=True),
        Binding("ctrl+s", "search", "Search the hub", show=False, priority=True),
        Binding("ctrl+x", "stop", "Stop fetching", show=False, priority=True),
        Binding("ctrl+u", "unload", "Unload", show=False, priority=True),
        Binding("f1", "keys", "Keys", show=False, priority=True),
    ]

    def __init__(self, host: Host, look: Callable[[], list[ModelChoice]]) -> None:
        """`look` may take its time: it runs on a thread."""
        super().__init__()
        self._host, self._backend, self._look = host, host.backend, look
        self._choices: list[ModelChoice] = []
        self._found: list[ModelChoice] = []  # on the hub,
        self._searched = ""  # for these words
        self._asked = ""  # what the hub was last asked for
        self._shown: list[ModelChoice] = []
        self._none, self._aside, self._fetched = "Looking …", "", False

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
        self.set_interval(LOOK_SECONDS, self.look_at_fetches)

    def look_at_fetches(self) -> None:
        before, self._fetched = self._fetched, self._host.fetches.running
        if self._fetched:
            self.fill(self._chosen())
        elif before:  # something has arrived
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
        opened = next((one for one in choices if one.open), None)
        self.call_after_refresh(self.fill, opened)  # by then the list knows its width

    @on(Input.Changed, "#filter")
    def narrow(self) -> None:
        if self.query_one("#filter", Input).value.strip() != self._asked:
            self._aside = ""
        self.fill()

    def fill(self, marked: ModelChoice | None = None) -> None:
        written = self.query_one("#filter", Input).value.strip()
        words = written.casefold().split()
        listed = [*self._choices, *self._under_way()]
        self._shown = [one for one in listed if all(word in one.name.casefold() for word in words)]
        if written == self._searched:
            names = {one.name for one in self._shown}
            self._shown += [one for one in self._found if one.name not in names]
        options = self.query_one(OptionList)
        options.display = bool(self._shown)
        options.clear_options()
        width = options.size.width or self.app.size.width - 12
        options.add_options([Option(self._line(choice, width)) for choice in self._shown])
        kept = [at for at, one in enumerate(self._shown) if marked is not None and one.name == marked.name]
        options.highlighted = kept[0] if kept else 0 if self._shown else None
        otherwise = f"enter opens {' '.join(words)}, ctrl+s searches the hub for it"
        nothing = otherwise if words and self._choices else self._none
        self._write(self._aside if self._shown else self._aside or nothing)

    def _under_way(self) -> list[ModelChoice]:
        """What is fetched and stands in no list."""
        known = {one.name for one in (*self._choices, *self._found)}
        return [ModelChoice(name, here=False) for name in self._host.fetches.names if name not in known]

    def tell(self, sentence: str) -> None:
        """Below the list, until something else is written."""
        self._aside = sentence
        self._write(sentence)

    def _write(self, sentence: str) -> None:
        told = self.query_one(".empty", Static)
        told.display = bool(sentence)
        told.update(Content(visible(sentence)))

    def _line(self, choice: ModelChoice, width: int) -> Content:
        width -= 2
        fetching = self._host.fetches.known(choice.name)
        where = far(choice) if fetching is None or not shows(fetching) else arriving(fetching, width)
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
        if chosen is not None and (chosen.open or chosen.here or chosen.server):
            self.dismiss(None if chosen.open else chosen)
        elif chosen is not None:
            self.bring(chosen)
        elif written and self._choices:
            self.find_out(written)

    def bring(self, choice: ModelChoice) -> None:
        """Beside the model that runs; where none does, it is fetched and loaded."""
        if self._host.model.phase is not Phase.READY:
            self.dismiss(choice)
            return
        self._host.fetch(choice.name)
        self._fetched = True
        self.fill(choice)

    @work(thread=True, exclusive=True)
    def find_out(self, name: str) -> None:
        """Whether what was typed is here."""
        choice = ModelChoice(name, here=False)
        try:
            choice = replace(choice, here=self._backend.is_here(name))
        except BROKEN as error:
            self.app.call_from_thread(self.tell, str(error))
            return
        self.app.call_from_thread(self.dismiss if choice.here else self.bring, choice)

    def action_stop(self) -> None:
        if (chosen := self._chosen()) is None:
            return
        self._host.fetches.stop(chosen.name)
        if chosen.name == self._host.model.name:
            self._host.stop_opening()
        self.fill(chosen)

    def action_unload(self) -> None:
        self._host.unload()
        self.read()

    def action_keys(self) -> None:
        self.tell(KEYS)

    def action_search(self) -> None:
        written = self.query_one("#filter", Input).value.strip()
        if not written:
            self.tell("Write what to search the hub for, then ctrl+s.")
            return
        self._asked = written
        self.tell(f"Searching the hub for {written} …")
        self.search(written)

    @work(thread=True, exclusive=True)
    def search(self, words: str) -> None:
        try:
            found = self._backend.search(words)
        except BROKEN as error:
            self.app.call_from_thread(self.tell, str(error))
        else:
            self.app.call_from_thread(self.show_found, words, found)

    def show_found(self, words: str, found: list[ModelChoice]) -> None:
        self._found, self._searched = found, words
        self.fill()
        self.tell("" if found else f"The hub has nothing by the name {words} that is read here.")

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


def far(choice: ModelChoice) -> str:
    """Where it is, or how it would come."""
    if choice.told:
        return f"hub, {choice.told}"
    where = "on the server" if choice.server else size(choice.bytes) if choice.bytes else ""
    return where if choice.here else f"{where} to fetch" if where else "fetched when first used"


def shows(fetching: Fetching) -> bool:
    return fetching.running or fetching.stopped


def arriving(fetching: Fetching, width: int) -> str:
    if not fetching.total:
        return "beginning · ctrl+x stops" if fetching.running else "stopped · enter goes on"
    share = min(1.0, fetching.done / fetching.total)
    if not fetching.running:
        return f"stopped at {100 * share:.0f}% · enter goes on" if width >= WIDE else f"stopped at {100 * share:.0f}%"
    if width < WIDE:
        return f"{100 * share:.0f}% · ctrl+x"
    filled = int(BAR * share)
    return f"{'━' * filled}{'─' * (BAR - filled)} {100 * share:.0f}% of {size(fetching.total)} · ctrl+x"
