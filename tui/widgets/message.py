"""Messages of a conversation as they are read: what a person said, and an answer that may still grow."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from ..sessions import ChatTurn
from ..text import Shown, counted, tokens_per_second, visible
from .document import Document
from .reasoning import Reasoning

TRY_AGAIN = Content.from_markup("  [@click='screen.retry'][u]ctrl+r[/u] tries again[/]")
ENDS = {"cancelled": "stopped", "length": "cut at the limit"}  # by core.Finish; a good end needs no word
DEFINITION = "]: "  # of a reference, which may be used above it


class UserMessage(Static):
    editing: reactive[bool] = reactive(False, toggle_class="-editing")

    def __init__(self, turn: ChatTurn) -> None:
        super().__init__(Content(visible(turn.content).strip("\n")), markup=False)
        self.turn = turn


class Notice(Static):
    """One sentence about what went wrong, in the place where it did."""

    def __init__(self, sentence: str, *, retry: bool = False) -> None:
        super().__init__(Content.assemble(visible(sentence), TRY_AGAIN if retry else ""), classes="notice")


class AssistantMessage(Vertical):
    waiting: reactive[str] = reactive("")

    def __init__(self, turn: ChatTurn, *, running: bool = False) -> None:
        super().__init__(classes="answer")
        self.turn = turn
        self.running = running
        self._shown, self._shown_reasoning = Shown(), Shown()

    def compose(self) -> ComposeResult:
        yield Reasoning(visible(self.turn.reasoning), self.turn.thought)
        yield Document(visible(self.turn.content), classes="said")
        yield Static(Content("") if self.running else self.footer(), classes="footer", markup=False)

    def watch_waiting(self, waiting: str) -> None:
        if self.running and self.is_mounted:
            self.query_one(".footer", Static).update(Content(waiting))

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
        return Content(" · ".join(facts(turn)))


def facts(turn: ChatTurn) -> Iterable[str]:
    if turn.finish in ENDS:
        yield ENDS[turn.finish]
    if turn.model:
        yield visible(turn.model)
    if turn.tokens:
        yield counted(turn.tokens, "token")
    if turn.rate:
        yield tokens_per_second(turn.rate)


def message(turn: ChatTurn) -> UserMessage | AssistantMessage:
    return UserMessage(turn) if turn.role == "user" else AssistantMessage(turn)
