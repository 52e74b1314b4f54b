"""How what is being typed could go on: a few lines above the prompt, one of them marked."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from ..commands import Completion
from ..text import visible

MOST = 7  # lines
COLUMN = 12  # cells of a name before what it does


class CompletionList(Widget):
    items: reactive[tuple[Completion, ...]] = reactive((), layout=True)
    at: reactive[int] = reactive(0)

    def on_mount(self) -> None:
        self.display = False

    def offer(self, items: Sequence[Completion]) -> None:
        if tuple(items) != self.items:
            self.at = 0
        self.items = tuple(items)
        self.display = bool(items)

    @property
    def marked(self) -> Completion | None:
        return self.items[self.at] if self.display and self.items else None

    def move(self, step: int) -> None:
        self.at = (self.at + step) % len(self.items)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return min(MOST, len(self.items))

    def render(self) -> Content:
        top = max(0, min(self.at - MOST // 2, len(self.items) - MOST))
        width, lines = self.size.width, []
        for index, item in list(enumerate(self.items))[top : top + MOST]:
            marked = index == self.at
            name = Content.styled(visible(item.text).ljust(COLUMN), "bold $primary" if marked else "$foreground")
            line = Content.assemble("› " if marked else "  ", name, "  ", (item.what, "$faint"))
            lines.append(line.truncate(width, ellipsis=True))
        return Content("\n").join(lines)
