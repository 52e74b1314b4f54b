"""Messages of a conversation as they are read: what a person said, and an answer that may still grow.

Each can be chosen by key (shift+tab in the prompt, then up and down) and says which keys act on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from .. import calls
from ..attach import pictures, read
from ..calls import ToolUse
from ..messages import Chosen, MessageAction
from ..sessions import ChatTurn
from ..text import Shown, counted, one_line, tokens_per_second, visible
from .call import CallCard
from .document import Document
from .picture import chip_told, shows_colours, thumbnail_of
from .reasoning import Reasoning

TRY_AGAIN = Content.from_markup("  [@click='screen.retry'][u]ctrl+r[/u] tries again[/]")
ENDS = {"cancelled": "stopped", "length": "cut at the limit", "edited": "edited by you"}  # a good end needs no word
DEFINITION = "]: "  # of a reference, which may be used above it
NOTICED = 0.05  # seconds
HINT = "c copy · b block · s save block · q quote · e edit · r again · [ ] branches · f fork · d delete"
SHORT_HINT = "c copy e edit q quote d delete [ ] f1"


class Choosable(Widget, can_focus=True):
    """A message that can have the focus; what its keys mean the screen knows."""

    FOCUS_ON_CLICK = False  # a click may begin a selection, and what is typed then is for the prompt
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("up,k", "other(-1)", show=False),
        Binding("down,j,tab", "other(1)", show=False),
        Binding("shift+tab", "other(-1)", show=False),
        Binding("escape", "leave", show=False),
        Binding("left_square_bracket", "act('before')", show=False),
        Binding("right_square_bracket", "act('after')", show=False),
        *[
            Binding(key, f"act('{what}')", show=False)
            for key, what in (
                ("c", "copy"),
                ("b", "block"),
                ("s", "save"),
                ("q", "quote"),
                ("e", "edit"),
                ("r", "retry"),
                ("f", "fork"),
                ("d", "delete"),
            )
        ],
    ]
    turn: ChatTurn

    def on_focus(self) -> None:
        self.post_message(Chosen(HINT if self.app.size.width >= len(HINT) else SHORT_HINT))

    def on_blur(self) -> None:
        self.post_message(Chosen(""))

    def action_act(self, what: str) -> None:
        self.post_message(MessageAction(self.turn, what))

    def action_leave(self) -> None:
        self.screen.query_one("#prompt").focus()

    def action_other(self, step: int) -> None:
        beside = list(self.screen.query(Choosable))
        at = beside.index(self) + step
        if at >= len(beside):
            self.action_leave()
        elif at >= 0:
            beside[at].focus()


class UserMessage(Choosable, Static):
    editing: reactive[bool] = reactive(False, toggle_class="-editing")

    def __init__(self, turn: ChatTurn, place: tuple[int, int] = (1, 1)) -> None:
        files = read(turn.files)
        chips = [Content.assemble("\n▣ ", one_line(Path(file.name).name), "  ", chip_told(file)) for file in files]
        below = Content.assemble(*chips, f"\n{branch_told(place)}" if place[1] > 1 else "").stylize("$faint")
        small = [part for file in pictures(files) for part in ("\n", thumbnail_of(file))] if shows_colours() else []
        super().__init__(Content.assemble(visible(turn.content).strip("\n"), below, *small), markup=False)
        self.turn = turn


class NoteMessage(Choosable, Static):
    """From here on a model is told less than what stands above."""

    def __init__(self, turn: ChatTurn) -> None:
        kept = f", then the last {counted(turn.keeps, 'message')} above" if turn.keeps else ""
        said = "this summary" if turn.content else "nothing of the older messages"
        head = Content.styled(f"┄ From here on the model is told {said}{kept}. ┄", "$secondary")
        text = f"\n{visible(turn.content)}" if turn.content else ""
        super().__init__(Content.assemble(head, text), markup=False, classes="note")
        self.turn = turn


class Notice(Static):
    """One sentence about what went wrong, in the place where it did."""

    def __init__(self, sentence: str, *, retry: bool = False) -> None:
        super().__init__(Content.assemble(visible(sentence), TRY_AGAIN if retry else ""), classes="notice")


class AssistantMessage(Choosable, Vertical):
    waiting: reactive[str] = reactive("")

    def __init__(self, turn: ChatTurn, place: tuple[int, int] = (1, 1), *, running: bool = False) -> None:
        super().__init__(classes="answer")
        self.turn, self.place = turn, place
        self.running = running
        self._shown, self._shown_reasoning = Shown(), Shown()

    def compose(self) -> ComposeResult:
        yield Reasoning(visible(self.turn.reasoning), self.turn.thought)
        with Vertical(classes="calls"):
            yield from map(CallCard, calls.read(self.turn.calls))
        yield Document(visible(self.turn.content), classes="said")
        yield Static(Content("") if self.running else self.footer(), classes="footer", markup=False)

    def watch_waiting(self, waiting: str) -> None:
        if self.running and self.is_mounted:
            self.query_one(".footer", Static).update(Content(waiting))

    async def add_call(self, use: ToolUse) -> CallCard:
        card = CallCard(use)
        await self.query_one(".calls").mount(card)
        return card

    def grow(self, content: str, reasoning: str, thought: float) -> None:
        """More of the answer, as the model wrote it; `thought`: seconds of reasoning so far."""
        box, said = self.query_one(Reasoning), self.query_one(".said", Document)
        if reasoning:
            box.add(self._shown_reasoning.push(reasoning))
        if content:
            said.add(self._shown.push(content))
        box.seconds, box.running = thought, not said.source

    def end(self, turn: ChatTurn) -> None:
        self.turn, self.running = turn, False
        box = self.query_one(Reasoning)
        box.add(self._shown_reasoning.finish())
        box.seconds, box.running = turn.thought, False
        said, whole = self.query_one(".said", Document), visible(turn.content)
        said.read_again(whole) if DEFINITION in whole else said.show(whole)
        self.query_one(".footer", Static).update(self.footer())
        self.set_class(turn.finish in ("failed", ""), "-failed")

    def footer(self) -> Content:
        turn = self.turn
        if turn.finish == "failed":
            return Content.assemble(visible(turn.reason), TRY_AGAIN)
        if turn.finish == "":
            return Content.assemble("This answer was interrupted.", TRY_AGAIN)
        return Content(" · ".join(facts(turn, self.place)))


def facts(turn: ChatTurn, place: tuple[int, int] = (1, 1)) -> Iterable[str]:
    if turn.finish in ENDS:
        yield ENDS[turn.finish]
    if turn.model:
        yield visible(turn.model)
    if turn.tokens:
        yield counted(turn.tokens, "token")
    if turn.rate:
        yield tokens_per_second(turn.rate)
    if turn.first >= NOTICED:
        yield f"first after {turn.first:.1f} s"
    if turn.cached and turn.prompt:
        yield f"{100 * turn.cached // turn.prompt}% of the prompt cached"
    if place[1] > 1:
        yield branch_told(place)


def branch_told(place: tuple[int, int]) -> str:
    return f"‹ {place[0]} of {place[1]} ›"


def message(turn: ChatTurn, place: tuple[int, int] = (1, 1)) -> Choosable:
    if turn.role == "note":
        return NoteMessage(turn)
    return UserMessage(turn, place) if turn.role == "user" else AssistantMessage(turn, place)
