"""The lens: how likely each token of an answer was, what else could have stood there, and to go on from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.widgets import Static

from ..likely import Placed, beginning, chance, perplexity, placed, spelled, style_of, surprise_line
from ..text import counted, one_line, visible
from .dialog import Dialog

if TYPE_CHECKING:
    from mlxrun.parts import Token

BAR = 20  # cells of a probability of 1
MARKED = "reverse"
HINTS = "arrows walk · 1 to 5 goes on with that one · esc closes"


class TokenText(ScrollView, can_focus=True):
    """All tokens; what a paint costs is what is seen of them."""

    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("left,h", "walk(-1)", show=False),
        Binding("right,l", "walk(1)", show=False),
        Binding("up,k", "walk_line(-1)", show=False),
        Binding("down,j", "walk_line(1)", show=False),
        Binding("home", "walk(-1000000)", show=False),
        Binding("end", "walk(1000000)", show=False),
        Binding("n", "unlikely(1)", show=False),
        Binding("p", "unlikely(-1)", show=False),
    ]

    class Walked(Message):
        """Another token is marked."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__()
        self.tokens, self.at = tokens, 0
        self._placed = Placed((), ())
        self._width = 0

    def on_resize(self) -> None:
        width = max(2, self.scrollable_content_region.width)
        if width != self._width:
            self._width, self._placed = width, placed(self.tokens, width)
            self.virtual_size = Size(width, len(self._placed.lines))
            self.refresh()

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        if line >= len(self._placed.lines):
            return Strip.blank(self._width, self.rich_style)
        content = Content.assemble(*((cell.text, self._look(cell.token)) for cell in self._placed.lines[line]))
        parts = content.render(self.visual_style, end="", parse_style=parsed_style)
        strip = Strip([Segment(text, style.rich_style) for text, style in parts], content.cell_length)
        return strip.adjust_cell_length(self._width, self.rich_style)

    def _look(self, token: int) -> str:
        return f"{style_of(self.tokens[token])} {MARKED}" if token == self.at else style_of(self.tokens[token])

    def mark(self, token: int) -> None:
        self.at = min(max(0, token), len(self.tokens) - 1)
        if self._placed.first_line:
            line = self._placed.first_line[self.at]
            self.scroll_to_region(Region(0, line, 1, 1), animate=False, force=True)
        self.refresh()
        self.post_message(self.Walked())

    def action_walk(self, step: int) -> None:
        self.mark(self.at + step)

    def action_walk_line(self, step: int) -> None:
        first = self._placed.first_line
        wanted = first[self.at] + step
        beyond = [at for at, line in enumerate(first) if (line >= wanted if step > 0 else line <= wanted)]
        if beyond:
            self.mark(beyond[0] if step > 0 else beyond[-1])

    def action_unlikely(self, step: int) -> None:
        """To the next token that was not the likeliest there."""
        at = self.at + step
        while 0 <= at < len(self.tokens):
            token = self.tokens[at]
            if token.top and token.top[0].bytes != token.bytes:
                self.mark(at)
                return
            at += step


class LensScreen(Dialog[str]):
    """Gives what an answer shall begin with."""

    AUTO_FOCUS = "TokenText"
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        *[Binding(str(number), f"take({number})", show=False) for number in range(1, 10)],
    ]

    def __init__(self, tokens: Sequence[Token], content: str) -> None:
        super().__init__()
        self._tokens, self._content = tokens, content
        self._spelled = spelled(tokens)

    def compose(self) -> ComposeResult:
        with Vertical(classes="box lens") as box:
            told = f"{counted(len(self._tokens), 'token')} · perplexity {perplexity(self._tokens):.2f}"
            box.border_title, box.border_subtitle = f"Lens · {told}", HINTS
            yield Static(classes="surprise", markup=False)
            yield TokenText(self._tokens)
            yield Static(classes="others", markup=False)

    def on_mount(self) -> None:
        self.show()

    def on_resize(self) -> None:
        self.show()

    def on_token_text_walked(self) -> None:
        self.show()

    def show(self) -> None:
        text = self.query_one(TokenText)
        token, width = self._tokens[text.at], max(8, text.size.width or self.app.size.width - 8)
        line = surprise_line(self._tokens, width)
        at = min(len(line) - 1, text.at * len(line) // max(1, len(self._tokens)))
        parts = ((line[:at], "$mark"), (line[at : at + 1], "$primary reverse"), (line[at + 1 :], "$mark"))
        self.query_one(".surprise", Static).update(Content.assemble(*parts))
        rows = [self._row("", token, width, f"  token {text.at + 1}" if width > 50 else f" #{text.at + 1}")]
        rows += [self._row(f"{number} ", one, width) for number, one in enumerate(token.top, 1)]
        self.query_one(".others", Static).update(Content("\n").join(rows))

    def _row(self, number: str, token: Token, width: int, behind: str = "") -> Content:
        likely = chance(token)
        name = one_line(repr(visible(token.text))[1:-1].replace(" ", "·") or "(no text)", 18).ljust(18)
        bar = "█" * round(BAR * likely) if width > 50 else ""
        style = "$foreground" if number else "bold $primary"
        return Content.assemble(
            (f"{number:<2}", "$primary"), (name, style), f" {likely:6.1%} ", (bar, "$secondary"), (behind, "$faint")
        )

    def action_take(self, number: int) -> None:
        at = self.query_one(TokenText).at
        others = self._tokens[at].top
        if number > len(others):
            return
        begins = beginning(self._tokens, self._content, at, others[number - 1])
        if begins is None:
            self.query_one(".box").border_subtitle = "only text that was said can go on · esc closes"
        else:
            self.dismiss(begins)


def parsed_style(style: str | Style) -> Style:
    return style if isinstance(style, Style) else Style.parse(style)
