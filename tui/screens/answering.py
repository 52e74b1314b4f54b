"""An answer on its way, as a part of the chat's screen: asked for, followed while it grows, kept, or given back.

A message that got no answer at all returns to the prompt, so that nothing typed is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import work
from textual.screen import Screen

from mlxrun.core import Finish, Refusal
from mlxrun.parts import Said

from .. import calls
from ..answer import AnswerReader, Batch
from ..backend import Phase
from ..calls import PARAGRAPH, CallsRead
from ..pace import Pace, Rate
from ..sessions import ChatTurn
from ..talk import Talk
from ..text import counted
from ..widgets.conversation import Conversation
from ..widgets.meter import MeterLine
from ..widgets.prompt import Prompt
from .calling import ROUNDS, ToolRuns
from .tools import reach_tools

if TYPE_CHECKING:
    from mlxrun.client import Client
    from mlxrun.core import Usage
    from mlxrun.parts import Token

    from ..host import Host
    from ..widgets.message import AssistantMessage

SAVE_SECONDS = 0.25  # between two savings of an answer that grows
LEAVE_SECONDS = 1.0  # that an answer gets to end when the program does
NO_TEXT_LOST = "Your message is back in the prompt."
FULL = "/compact has the model sum the conversation up, /drop leaves the oldest messages out, ctrl+n begins anew."
STOPPING = "stopping"
ALTERNATIVES = 5  # that the lens shows


class AnsweringScreen(Screen[None]):
    host: Host
    _conversation: Conversation
    _prompt: Prompt
    _meter: MeterLine

    def __init__(self) -> None:
        super().__init__()
        self.talk: Talk | None = None
        self.reader: AnswerReader | None = None
        self.waiting: AssistantMessage | None = None  # shown for a message that waits for a model
        self._stopping = False
        self.calling: ToolRuns | None = None  # the tools of the answer that is on its way
        self.lens = False  # whether answers tell how likely their tokens were
        self.tokens: dict[int, tuple[Token, ...]] = {}  # of the answers that did, by their turn, until the program ends

    @property
    def busy(self) -> bool:
        return self.calling is not None or self.waiting is not None

    def leave(self) -> None:
        """End what is running; what came of it stays."""
        if self.waiting is not None:
            self.waiting = None
        if self.calling is not None:
            batch = Batch()
            if self.reader is not None:
                self.reader.cancel()
                self.reader.wait(LEAVE_SECONDS)
                batch = self.reader.take()
            self.workers.cancel_group(self, "answer")
            self._keep(batch, Finish.CANCELLED)
            self.reader = self.calling = None

    async def stop_answer(self) -> None:
        if self.waiting is not None:
            await self._give_back()
        elif self.calling is not None:
            self._stopping = True
            self.calling.stop()
            if self.reader is not None:
                self.reader.cancel()
            self._view_on_screen().waiting = STOPPING  # reading a prompt ends with the pass that runs
        else:
            self.host.stop_opening()

    async def answer(self, begins: str = "") -> None:
        """The last message; `begins`: what the answer is made to begin with."""
        from ..widgets.message import AssistantMessage

        view = AssistantMessage(ChatTurn(0, "assistant", begins), running=True)
        await self._conversation.add(view)
        if self.host.model.phase is Phase.READY:
            self._ask(view)
            return
        view.waiting = "waiting for the model · esc takes your message back"
        self.waiting = view
        if self.host.model.phase is not Phase.OPENING:
            self.host.wake_model()

    def _ask(self, view: AssistantMessage) -> None:
        client = self.host.client
        assert self.talk is not None
        assert client is not None
        begins = view.turn.content
        view.turn = self.talk.answer(client.model, begins)
        view.place = self.talk.place(view.turn)
        self.calling, self._stopping = ToolRuns(self.host, view), False
        self._follow(client, view, begins)

    def _reader(self, client: Client, begins: str = "", *, may_call: bool = True) -> AnswerReader:
        """Of the answer to the conversation as it is now, which is on its way."""
        assert self.talk is not None
        messages, options = self.talk.messages(client.sees is not False), self.talk.wishes.options()
        if not begins and messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        if self.lens:
            options["logprobs"] = ALTERNATIVES
        names, tools = self.talk.wishes.tools, self.host.tools
        lent = tuple(one.tool for one in tools.values() if one.server in names) if may_call else ()
        if lent:
            options["tools"] = lent
        reader = AnswerReader(lambda: client.stream(messages, **options), calls_apart=bool(names))
        reader.start()
        return reader

    @work(group="answer", exclusive=True)
    async def _follow(self, client: Client, view: AssistantMessage, begins: str) -> None:
        """Round by round: the calls of one are run before the next begins."""
        assert self.calling is not None
        assert self.talk is not None
        await self._reach_tools(self.talk.wishes.tools, view)
        for number in range(ROUNDS + 1):
            read, self.reader = CallsRead(number), self._reader(client, begins, may_call=number < ROUNDS)
            if self.calling.stopped:
                self.reader.cancel()
            batch = await self._followed(self.reader, view, read)
            goes_on = batch.finish is Finish.STOP and read.whole and self.talk.wishes.tools
            if not goes_on or self.host.client is not client:
                break
            uses = calls.read(view.turn.calls)
            for use in read.whole:
                uses.append(await self.calling.run(use))
                view.turn = replace(view.turn, calls=calls.written(uses))
                self._save(view.turn)
            if self.calling.stopped:
                batch = replace(batch, finish=Finish.CANCELLED)
                break
            begins = ""
        self.reader = self.calling = None
        await self._finish(view, batch)

    async def _reach_tools(self, servers: Sequence[str], view: AssistantMessage) -> None:
        """Those that nobody asked yet since the program began. What cannot be reached is told; the rest goes on."""
        known = {lent.server for lent in self.host.tools.values()}
        if missing := [server for server in servers if server not in known]:
            view.waiting = f"reaching {', '.join(missing)}"
            told, good = await reach_tools(self.host, missing)
            if not good:
                self.host.tell(told)

    async def _followed(self, reader: AnswerReader, view: AssistantMessage, read: CallsRead) -> Batch:
        """How it ended. What came is in the view's turn, its calls are read."""
        began = saved = time.monotonic()
        pace, rate, batch = Pace(), Rate(), Batch()
        thought, content_began = 0.0, False
        self._meter.rate = None
        while batch.finish is None:
            await asyncio.sleep(pace.pause())
            batch, now = parted(reader.take(), view.turn, content_began), time.monotonic()
            read.add(batch.parts)
            if reader.first is None:
                view.waiting = STOPPING if self._stopping else reading(now - began, reader.prompt_read)
            elif view.waiting:
                view.waiting = ""
            content_began = content_began or bool(batch.content.strip())
            if reader.first is not None and not content_began:
                thought = now - reader.first
            if batch.pieces:
                self._meter.rate = rate.add(batch.pieces) or self._meter.rate
            view.grow(batch.content, batch.reasoning, thought)
            first = 0.0 if reader.first is None else max(0.0, reader.first - began)
            turn = replace(grown(view.turn, batch, thought), first=first)
            view.turn = turn
            if batch.tokens:
                self.tokens[turn.id] = self.tokens.get(turn.id, ()) + batch.tokens
            if now - saved >= SAVE_SECONDS and batch.pieces:
                saved = now
                self._save(turn)
        return batch

    async def _finish(self, view: AssistantMessage, batch: Batch) -> None:
        assert batch.finish is not None
        turn = view.turn
        empty = not turn.content.strip() and not turn.reasoning.strip() and not turn.calls
        good = batch.finish in (Finish.STOP, Finish.LENGTH)
        if batch.finish is Finish.FAILED and self.host.model.server:
            self.host.lose_server(batch.reason or "")
        if empty and not good:
            await self._no_answer(turn, batch, view)
            return
        finish = Finish.FAILED if batch.finish is Finish.REFUSED else batch.finish
        turn = ended(turn, finish, batch.reason or "", batch.usage, self._meter.rate)
        self._save(turn)
        self._meter.rate = turn.rate or None
        view.end(turn)
        self.answer_ended()

    async def _no_answer(self, turn: ChatTurn, batch: Batch, view: AssistantMessage) -> None:
        stopped = batch.finish is Finish.CANCELLED
        reason = None if stopped else batch.reason or "There was no answer."
        if reason and batch.refusal is Refusal.CONTEXT:
            reason = f"{reason} {FULL}"
        if self.talk is not None and self.talk.remove(turn):  # an earlier answer is there still
            await self._conversation.show(self.talk.turns, self.talk)
            if reason:
                await self._conversation.notice(reason)
            return
        await self._give_back(reason and f"{reason} {NO_TEXT_LOST}", view)
        self.answer_ended()

    def answer_ended(self) -> None:
        """Whoever shows how full the context is may look again."""

    def _keep(self, batch: Batch, finish: Finish) -> None:
        """What had come of an answer that nobody follows any more."""
        if self.talk is not None and self.talk.turns and self.talk.turns[-1].role == "assistant":
            turn = ended(grown(self._view_on_screen().turn, batch, 0.0), finish, "", batch.usage, self._meter.rate)
            if turn.content or turn.reasoning or turn.calls:
                self._save(turn)
            else:
                self.talk.remove(turn)

    def _view_on_screen(self) -> AssistantMessage:
        from ..widgets.message import AssistantMessage

        return list(self._conversation.query(AssistantMessage))[-1]

    async def _give_back(self, sentence: str | None = None, view: AssistantMessage | None = None) -> None:
        """The message had no answer: it returns to the prompt, before what was typed meanwhile."""
        self.waiting = None
        said = self.talk.last_said if self.talk is not None else None
        if self.talk is None or said is None:
            return
        self.talk.remove(said)
        await self._conversation.show(self.talk.turns, self.talk)
        self._prompt.give_back(said.content, said.files)
        self.talk.draft(self._prompt.text, self._prompt.files_written)
        self.show_title()
        if sentence is not None:
            await self._conversation.notice(sentence)

    def show_title(self) -> None:
        """The session may be named anew."""

    def _save(self, turn: ChatTurn) -> None:
        if self.talk is not None:
            with self.host.told_if_unsaved():
                self.talk.save(turn)


def reading(seconds: float, read: tuple[int, int] | None) -> str:
    """What is told of a prompt that is read; nothing but that of one that is read at once."""
    if seconds < 1:
        return "reading"
    tokens = f"{read[0]:,} of {counted(read[1], 'token')} · " if read is not None else ""
    return f"reading {tokens}{seconds:.0f} s · esc stops"


def parted(batch: Batch, turn: ChatTurn, begun: bool) -> Batch:
    """What is said after a call begins a paragraph."""
    if begun or not turn.calls or not turn.content or not batch.content.strip():
        return batch
    return replace(batch, parts=(Said(PARAGRAPH), *batch.parts))


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
    return replace(turn, tokens=usage.output_tokens, rate=exact, prompt=usage.prompt_tokens, cached=usage.cached_tokens)
