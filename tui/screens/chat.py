"""The chat: what a person writes goes to the model, what it answers grows on the screen and on disk."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import Screen

from mlxrun.core import Finish

from ..answer import AnswerReader, Batch
from ..backend import ModelState, Phase
from ..messages import DraftChanged, EditAsked, Submitted
from ..pace import Pace, Rate
from ..sessions import ChatTurn
from ..talk import Talk
from ..text import visible
from ..widgets.conversation import Conversation
from ..widgets.meter import MeterLine
from ..widgets.prompt import Prompt
from ..widgets.status import StatusLine

if TYPE_CHECKING:
    from mlxrun.core import Memory, Usage

    from ..host import Host
    from ..widgets.message import AssistantMessage

SAVE_SECONDS = 0.25  # between two savings of an answer that grows
LEAVE_SECONDS = 1.0  # that an answer gets to end when the program does
NO_TEXT_LOST = "Your message is back in the prompt."


class ChatScreen(Screen[None]):
    AUTO_FOCUS = "#prompt"
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("escape", "stop", "Stop the answer"),
        Binding("ctrl+n", "new", "New session"),
        Binding("ctrl+o", "app.sessions", "Sessions"),
        Binding("ctrl+l", "app.models", "Models"),
        Binding("ctrl+r", "retry", "Answer again"),
        Binding("ctrl+t", "reasoning", "Reasoning"),
        Binding("f1", "app.help", "Keys"),
    ]

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.talk: Talk | None = None
        self.reader: AnswerReader | None = None
        self.waiting: AssistantMessage | None = None  # shown for a message that waits for a model
        self.edited: ChatTurn | None = None
        self._aside = ""  # the draft that editing pushed aside
        self._early = ""  # sent before the sessions were open

    def compose(self) -> ComposeResult:
        with Vertical(classes="edge"):
            yield StatusLine()
        yield Conversation()
        with Vertical(classes="edge"):
            yield Prompt()
            yield MeterLine()

    def on_mount(self) -> None:
        self._status, self._meter = self.query_one(StatusLine), self.query_one(MeterLine)
        self._prompt, self._conversation = self.query_one(Prompt), self.query_one(Conversation)
        self.watch(self.app, "model", self.on_model)
        self.watch(self.app, "memory", self.on_memory)

    @property
    def busy(self) -> bool:
        return self.reader is not None or self.waiting is not None

    async def open(self, talk: Talk) -> None:
        """Show that conversation; whatever was typed until now joins its draft."""
        self.leave()
        typed = self._prompt.text if self.talk is None else ""
        self.talk, self.edited, self._prompt.editing = talk, None, False
        self._prompt.load(talk.saved_draft + typed)
        await self._conversation.show(talk.turns)
        self.show_title()
        if talk.unanswered:
            await self._conversation.notice("This message has no answer yet.", retry=True)
        if self._early:
            early, self._early, draft = self._early, "", self._prompt.text
            await self.send(Submitted(early))
            self._prompt.load(draft)
        self._prompt.focus()

    def leave(self) -> None:
        """End what is running; what came of it stays."""
        if self.waiting is not None:
            self.waiting = None
        if self.reader is not None:
            self.reader.cancel()
            self.reader.wait(LEAVE_SECONDS)
            self.workers.cancel_group(self, "answer")
            self._keep(self.reader.take(), Finish.CANCELLED)
            self.reader = None

    # what the app tells

    async def on_model(self, model: ModelState) -> None:
        self._status.model = self._conversation.model = model
        name = visible(model.name) or "the model"
        self._prompt.hint = (
            f"Message {name}" if model.phase is Phase.READY else "Write already; it is sent when the model is there"
        )
        if self.waiting is None:
            return
        if model.phase is Phase.READY:
            view, self.waiting = self.waiting, None
            self._ask(view)
        elif model.phase is Phase.FAILED:
            await self._give_back(f"{model.reason} {NO_TEXT_LOST} Ctrl+L picks another model.")

    def on_memory(self, memory: Memory | None) -> None:
        self._meter.memory = memory

    # what a person does

    @on(Submitted)
    async def send(self, event: Submitted) -> None:
        if self.talk is None:
            self._early = f"{self._early}\n\n{event.text}" if self._early else event.text
            self._prompt.take(event.text)
            return
        if self.busy:
            self.host.tell("One answer at a time: Esc stops this one.")
            return
        edited = self.edited
        if edited is not None:
            await self._conversation.cut(edited)
        turn = self.talk.say(event.text, instead_of=edited)
        self._prompt.take(event.text)
        self._end_editing(self._prompt.text)
        self.show_title()
        from ..widgets.message import UserMessage

        await self._conversation.add(UserMessage(turn))
        await self._answer()

    @on(DraftChanged)
    def save_draft(self, event: DraftChanged) -> None:
        if self.talk is not None and self.edited is None:
            self.talk.draft(event.text)

    @on(EditAsked)
    def action_edit(self) -> None:
        said = self.talk.last_said if self.talk is not None else None
        if said is None or self.busy or self.edited is not None:
            return
        self._aside, self.edited = self._prompt.text, said
        self._prompt.editing = True
        self._prompt.load(said.content)
        self._conversation.mark_edited(said)
        self._prompt.focus()

    async def action_stop(self) -> None:
        if self.edited is not None:
            self._end_editing()
        elif self.waiting is not None:
            await self._give_back()
        elif self.reader is not None:
            self.reader.cancel()

    async def action_retry(self) -> None:
        if self.talk is None or not self.talk.turns or self.busy:
            return
        last = self.talk.turns[-1]
        if last.role == "assistant":
            await self._conversation.cut(last)
            self.talk.cut(last)
        await self._answer()

    def action_reasoning(self) -> None:
        from ..widgets.reasoning import Reasoning

        shown = [box for box in self.query(Reasoning) if box.display]
        if shown:
            shown[-1].toggle()

    async def action_earlier(self) -> None:
        if self.talk is not None and not self.busy:
            await self._conversation.show(self.talk.turns, all_of_them=True)
            self._conversation.scroll_home(animate=False)

    def action_scroll(self, where: str) -> None:
        (self._conversation.scroll_page_up if where == "up" else self._conversation.scroll_page_down)(animate=False)

    async def action_new(self) -> None:
        if self.talk is None or self.talk.turns or self.talk.title:
            await self.host.open_session(None)
        self._prompt.focus()

    def show_title(self) -> None:
        self._status.session = self.talk.title if self.talk is not None else ""

    async def action_copy(self) -> None:
        answer = self.talk.last_answer if self.talk is not None else None
        if answer is not None:
            await self.host.copy(answer.content, "The last answer")

    # an answer

    async def _answer(self) -> None:
        from ..widgets.message import AssistantMessage

        view = AssistantMessage(ChatTurn(0, "assistant", ""), running=True)
        await self._conversation.add(view)
        if self.host.model.phase is Phase.READY:
            self._ask(view)
            return
        view.waiting = "waiting for the model · esc takes your message back"
        self.waiting = view
        if self.host.model.phase in (Phase.FAILED, Phase.LOST):
            self.host.open_model()

    def _ask(self, view: AssistantMessage) -> None:
        client = self.host.client
        assert self.talk is not None
        assert client is not None
        messages = self.talk.messages()
        view.turn = self.talk.answer(client.model)
        self.reader = AnswerReader(lambda: client.stream(messages))
        self.reader.start()
        self._follow(self.reader, view)

    @work(group="answer", exclusive=True)
    async def _follow(self, reader: AnswerReader, view: AssistantMessage) -> None:
        began = saved = time.monotonic()
        pace, rate, batch = Pace(), Rate(), Batch()
        thought, content_began = 0.0, False
        self._meter.rate = None
        while batch.finish is None:
            await asyncio.sleep(pace.pause())
            batch, now = reader.take(), time.monotonic()
            if reader.first is None:
                view.waiting = f"reading {now - began:.0f} s · esc stops" if now - began >= 1 else "reading"
            elif view.waiting:
                view.waiting = ""
            content_began = content_began or bool(batch.content.strip())
            if reader.first is not None and not content_began:
                thought = now - reader.first
            if batch.pieces:
                self._meter.rate = rate.add(batch.pieces) or self._meter.rate
            view.grow(batch.content, batch.reasoning, thought)
            turn = grown(view.turn, batch, thought)
            view.turn = turn
            if now - saved >= SAVE_SECONDS and batch.pieces:
                saved = now
                self._save(turn)
        self.reader = None
        await self._finish(view, batch)

    async def _finish(self, view: AssistantMessage, batch: Batch) -> None:
        assert batch.finish is not None
        turn = view.turn
        empty = not turn.content.strip() and not turn.reasoning.strip()
        good = batch.finish in (Finish.STOP, Finish.LENGTH)
        if batch.finish is Finish.FAILED and self.host.model.server:
            self.host.lose_server(batch.reason or "")
        if empty and not good:
            self._cut(turn)
            stopped = batch.finish is Finish.CANCELLED
            await self._give_back(None if stopped else f"{batch.reason or 'There was no answer.'} {NO_TEXT_LOST}", view)
            return
        finish = Finish.FAILED if batch.finish is Finish.REFUSED else batch.finish
        turn = ended(turn, finish, batch.reason or "", batch.usage, self._meter.rate)
        self._save(turn)
        self._meter.rate = turn.rate or None
        view.end(turn)

    def _keep(self, batch: Batch, finish: Finish) -> None:
        """What had come of an answer that nobody follows any more."""
        if self.talk is not None and self.talk.turns and self.talk.turns[-1].role == "assistant":
            turn = ended(grown(self._turn_on_screen(), batch, 0.0), finish, "", batch.usage, self._meter.rate)
            self._save(turn) if turn.content or turn.reasoning else self._cut(turn)

    def _turn_on_screen(self) -> ChatTurn:
        from ..widgets.message import AssistantMessage

        return list(self._conversation.query(AssistantMessage))[-1].turn

    async def _give_back(self, sentence: str | None = None, view: AssistantMessage | None = None) -> None:
        """The message had no answer: it returns to the prompt, before what was typed meanwhile."""
        self.waiting = None
        said = self.talk.last_said if self.talk is not None else None
        if self.talk is None or said is None:
            return
        await self._conversation.drop_answer()
        await self._conversation.cut(said)
        self.talk.cut(said)
        self._prompt.load("\n\n".join(filter(None, (said.content, self._prompt.text))))
        self.talk.draft(self._prompt.text)
        self.show_title()
        if sentence is not None:
            await self._conversation.notice(sentence)
        elif not self.talk.turns:
            await self._conversation.show([])

    def _end_editing(self, typed_since: str = "") -> None:
        if self.edited is not None:
            self._conversation.mark_edited(None)
            self._prompt.editing, self.edited = False, None
            self._prompt.load(self._aside + typed_since)
            self._aside = ""

    def _save(self, turn: ChatTurn) -> None:
        if self.talk is not None:
            with self.host.told_if_unsaved():
                self.talk.save(turn)

    def _cut(self, turn: ChatTurn) -> None:
        if self.talk is not None:
            self.talk.cut(turn)


def grown(turn: ChatTurn, batch: Batch, thought: float) -> ChatTurn:
    return replace(
        turn,
        content=turn.content + batch.content,
        reasoning=turn.reasoning + batch.reasoning,
        thought=max(turn.thought, thought),
        tokens=turn.tokens + batch.pieces,
    )


def ended(turn: ChatTurn, finish: Finish, reason: str, usage: Usage | None, rate: float | None) -> ChatTurn:
    turn = replace(turn, finish=str(finish), reason=reason, rate=rate or 0.0)
    if usage is None:
        return turn
    exact = (usage.output_tokens - 1) / usage.decode_seconds if usage.output_tokens > 1 and usage.decode_seconds else 0
    return replace(turn, tokens=usage.output_tokens, rate=exact)
