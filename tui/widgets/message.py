"""Messages of a conversation as they are read: what a person said, and an answer that may still grow."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

from ..messages import LinkAsked
from ..sessions import Turn
from ..text import Shown, counted, tokens_per_second, visible
from .reasoning import Reasoning

TRY_AGAIN = Content.from_markup("  [@click='screen.retry'][u]ctrl+r[/u] tries again[/]")
ENDS = {"cancelled": "stopped", "length": "cut at the limit"}  # by core.Finish; a good end needs no word


@cache
def parser() -> MarkdownIt:
    """HTML is shown as it was written, and nothing becomes a link that was not written as one."""
    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    made.core.ruler.push("keep_lines", keep_lines)
    return made


def keep_lines(state: StateCore) -> None:
    """Models end a line where they mean to, in verse and addresses: no line is joined to the one before."""
    for token in state.tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"


class UserMessage(Static):
    editing: reactive[bool] = reactive(False, toggle_class="-editing")

    def __init__(self, turn: Turn) -> None:
        super().__init__(Content(visible(turn.content).strip("\n")), markup=False)
        self.turn = turn


class Notice(Static):
    """One sentence about what went wrong, in the place where it did."""

    def __init__(self, sentence: str, *, retry: bool = False) -> None:
        super().__init__(Content.assemble(visible(sentence), TRY_AGAIN if retry else ""), classes="notice")


class Answer(Vertical):
    waiting: reactive[str] = reactive("")

    def __init__(self, turn: Turn, *, running: bool = False) -> None:
        super().__init__(classes="answer")
        self.turn = turn
        self.running = running
        self._shown, self._shown_reasoning = Shown(), Shown()
        self._stream: MarkdownStream | None = None

    def compose(self) -> ComposeResult:
        yield Reasoning(visible(self.turn.reasoning), self.turn.thought)
        yield Markdown(visible(self.turn.content), parser_factory=parser, open_links=False)
        yield Static(Content("") if self.running else self.footer(), classes="footer", markup=False)

    def watch_waiting(self, waiting: str) -> None:
        if self.running and self.is_mounted:
            self.query_one(".footer", Static).update(Content(waiting))

    async def grow(self, content: str, reasoning: str, thought: float) -> None:
        """More of the answer, as the model wrote it; `thought`: seconds of reasoning so far."""
        box = self.query_one(Reasoning)
        if reasoning:
            box.add(self._shown_reasoning.push(reasoning))
        box.seconds, box.running = thought, bool(not content and self._stream is None)
        if content:
            if self._stream is None:
                self._stream = Markdown.get_stream(self.query_one(Markdown))
            await self._stream.write(self._shown.push(content))

    async def end(self, turn: Turn) -> None:
        self.turn, self.running = turn, False
        box, markdown = self.query_one(Reasoning), self.query_one(Markdown)
        box.add(self._shown_reasoning.finish())
        box.seconds, box.running = turn.thought, False
        if self._stream is not None:
            await self._stream.write(self._shown.finish())
            await self._stream.stop()
        if markdown.source != visible(turn.content):
            await markdown.update(visible(turn.content))
        self.query_one(".footer", Static).update(self.footer())
        self.set_class(turn.finish in ("failed", ""), "-failed")

    def footer(self) -> Content:
        turn = self.turn
        if turn.finish == "failed":
            return Content.assemble(visible(turn.reason), TRY_AGAIN)
        if turn.finish == "":
            return Content.assemble("This answer was interrupted.", TRY_AGAIN)
        return Content(" · ".join(facts(turn)))

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        event.stop()
        self.post_message(LinkAsked(event.href))


def facts(turn: Turn) -> Iterable[str]:
    if turn.finish in ENDS:
        yield ENDS[turn.finish]
    if turn.model:
        yield visible(turn.model)
    if turn.tokens:
        yield counted(turn.tokens, "token")
    if turn.rate:
        yield tokens_per_second(turn.rate)


def message(turn: Turn) -> UserMessage | Answer:
    return UserMessage(turn) if turn.role == "user" else Answer(turn)
