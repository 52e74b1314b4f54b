"""The models that can be picked: those of the server that was joined, and those on this machine."""

from __future__ import annotations

from collections.abc import Callable

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ..backend import BROKEN, ModelChoice
from ..text import one_line, size
from .dialog import Dialog


class ModelsScreen(Dialog[ModelChoice]):
    """Gives the model to change to."""

    AUTO_FOCUS = "OptionList"

    def __init__(self, look: Callable[[], list[ModelChoice]]) -> None:
        """`look` may take its time: it runs on a thread."""
        super().__init__()
        self._look = look
        self._choices: list[ModelChoice] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title, box.border_subtitle = "Models", "enter changes to it · esc closes"
            yield OptionList(markup=False)
            yield Static("Looking …", classes="empty", markup=False)

    def on_mount(self) -> None:
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
        self._choices = choices
        self.query_one(".empty", Static).display = not choices
        self.query_one(".empty", Static).update(Content(one_line(otherwise, 300)))
        self.query_one(OptionList).display = bool(choices)
        self.call_after_refresh(self.fill)  # by then the list knows its width

    def fill(self) -> None:
        options, choices = self.query_one(OptionList), self._choices
        options.add_options([Option(self._line(choice, options.size.width)) for choice in choices])
        opened = [index for index, choice in enumerate(choices) if choice.open]
        options.highlighted = opened[0] if opened else 0 if choices else None
        options.focus()

    def _line(self, choice: ModelChoice, width: int) -> Content:
        width -= 2
        detail = "on the server" if choice.server else size(choice.bytes) if choice.bytes else "fetched when first used"
        if choice.open:
            detail = f"open · {detail}"
        name = one_line(choice.name, max(8, width - len(detail) - 4))
        gap = " " * max(2, width - Content(name).cell_length - len(detail) - 2)
        dot = ("● ", "$success") if choice.open else ("  ", "")
        return Content.assemble(dot, name, gap, (detail, "$faint"))

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        choice = self._choices[event.option_index]
        self.dismiss(None if choice.open else choice)
