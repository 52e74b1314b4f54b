"""A text that may grow, as one widget: what it costs to paint is what is seen of it, however long it is.

A widget for each block (as Textual's own Markdown has it) is laid out again with every paint: at 5,000 tokens
these are more than a thousand.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.geometry import Size
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from ..lines import BLANK, Line
from ..markdown import Growing, Read, markdown
from ..messages import LinkAsked


class Document(Widget):
    def __init__(self, text: str = "", *, read: Read = markdown, classes: str | None = None) -> None:
        """`text` is safe to show."""
        super().__init__(classes=classes)
        self._read = read
        self._forget(Growing(read, text))

    @property
    def source(self) -> str:
        return self._text.source

    def add(self, text: str) -> None:
        if not text:
            return
        height, width = len(self._lines), self._width
        self._keep(self._text.add(text))
        grown = not width or len(self._laid_out(width)) != height
        self.refresh(layout=grown)

    def show(self, text: str) -> None:
        """This text and no other. What is there already is not laid out again."""
        if text.startswith(self.source):
            self.add(text[len(self.source) :])
        else:
            self.read_again(text)

    def read_again(self, text: str) -> None:
        self._forget(Growing(self._read, text))
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._laid_out(width))

    def render_line(self, y: int) -> Strip:
        lines = self._laid_out(self.content_size.width)
        if y >= len(lines):
            return Strip.blank(self.content_size.width, self.rich_style)
        span = self.text_selection.get_span(y) if self.text_selection is not None else None
        if span is not None:
            return self._strip(y, lines[y], span)
        if y not in self._strips:
            self._strips[y] = self._strip(y, lines[y])
        return self._strips[y]

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        parts: list[str] = []
        for y, line in enumerate(self._lines):
            if (span := selection.get_span(y)) is not None:
                start, end = span
                text, start = line.content.plain, max(start, line.aside)
                whole = end == -1 or end >= len(text)
                parts.append(text[start:].rstrip() + line.end if whole else text[start:end])
        return "".join(parts).rstrip("\n"), "\n"

    def notify_style_update(self) -> None:
        self._strips.clear()
        self._styles_by_name.clear()
        super().notify_style_update()

    def action_link(self, href: str) -> None:
        self.post_message(LinkAsked(href))

    def _forget(self, text: Growing) -> None:
        self._text = text
        self._width = 0  # that the lines are laid out for
        self._lines: list[Line] = []
        self._ends: list[int] = []  # of each block that is laid out: the number of lines with it
        self._strips: dict[int, Strip] = {}
        self._styles_by_name: dict[str, Style] = {}

    def _keep(self, blocks: int) -> None:
        """Only the lines of the first blocks."""
        del self._ends[blocks:]
        del self._lines[self._ends[-1] if self._ends else 0 :]
        self._strips = {y: strip for y, strip in self._strips.items() if y < len(self._lines)}

    def _laid_out(self, width: int) -> list[Line]:
        if width != self._width:
            self._keep(0)
            self._width = width
        for block in self._text.blocks[len(self._ends) :]:
            if self._lines:
                self._lines += [BLANK] * block.gap
            self._lines += block.lines(width)
            self._ends.append(len(self._lines))
        return self._lines

    def _strip(self, y: int, line: Line, selected: tuple[int, int] | None = None) -> Strip:
        content = line.content
        if selected is not None:
            start, end = selected
            style = Style.from_styles(self.screen.get_component_styles("screen--selection"))
            content = content.stylize(style, start, None if end == -1 else end)
        parts = content.render(self.visual_style, end="", parse_style=self._style)
        strip = Strip([Segment(text, style.rich_style) for text, style in parts], content.cell_length)
        return strip.apply_offsets(0, y).adjust_cell_length(self.content_size.width, self.rich_style)

    def _style(self, name: str | Style) -> Style:
        if isinstance(name, Style):
            return name
        if name not in self._styles_by_name:
            self._styles_by_name[name] = Style.parse(name)
        return self._styles_by_name[name]
