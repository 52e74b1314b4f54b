"""What all dialogs share: a box in the middle, Esc closes it."""

from __future__ import annotations

from typing import TypeVar

from textual.binding import Binding
from textual.screen import ModalScreen

Result = TypeVar("Result")


class Dialog(ModalScreen[Result | None]):
    BINDINGS = [Binding("escape", "close", "Close", show=False)]  # noqa: RUF012 Textual's own way to declare them

    def action_close(self) -> None:
        self.dismiss(None)
