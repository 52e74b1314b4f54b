"""An answer in rounds: what the model calls of lent tools is called here, and it goes on with what they said.

To its reader it is one answer: calls are numbered through, results are parts (`CallAnswered`), and what was counted is
told at the end, of all rounds together. A call of a tool that is the asker's own ends it, as it ends any answer. After
so many rounds the model is asked once more and may call nothing. Knows no dialect.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from ...assistant import Answer
from ...client.mcp.connection import ToolResult
from ...client.mcp.connections import LentTool
from ...core import Finish, RequestError, Usage
from ...parts import AnswerPart, Arguments, CallAnswered, CallBegun, CallEnded, Piece, Said, Thought
from ...spec import ModelError
from ...turns import Ask, Call, Calling, Role, ToolChoice, Turn
from .lender import Lender

MOST_ROUNDS = 8  # in which tools are called
PARAGRAPH = "\n\n"  # between what is said in one round and the next


@dataclass
class OneRound:
    """What the model wrote in one round; its calls by the numbers that the reader knows them by."""

    said: str = ""
    thoughts: str = ""
    calls: dict[int, Call] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)  # of which calls the arguments are

    def add(self, part: AnswerPart) -> None:
        match part:
            case Said(text):
                self.said += text
            case Thought(text):
                self.thoughts += text
            case CallBegun(index, id, name):
                self.calls[index] = Call(id, name, "")
            case Arguments(index, text):
                self.calls[index] = replace(self.calls[index], arguments=self.calls[index].arguments + text)
            case CallEnded(index):
                self.whole.add(index)

    def all_of(self, tools: Container[str]) -> bool:
        """Whether it called something, all of it whole and among those tools."""
        called = self.calls.keys() <= self.whole and all(call.name in tools for call in self.calls.values())
        return bool(self.calls) and called

    def turns(self, results: Mapping[int, ToolResult]) -> Iterator[Turn]:
        calls = tuple(self.calls.values())
        content = (self.said,) if self.said else ()
        yield Turn(Role.ASSISTANT, content, thoughts=self.thoughts or None, calls=calls)
        for index, call in self.calls.items():
            told = results[index]
            yield Turn(Role.TOOL, (told.text,), answers=call.id, failed=told.failed, name=call.name)


class Rounds:
    """Is listened to and read as an `Answer` is."""

    def __init__(self, ask: Ask, answer: Callable[[Ask], Answer], lent: Mapping[str, LentTool], lender: Lender) -> None:
        """`answer`: begins the answer to an ask."""
        self._ask, self._answer, self._lent, self._lender = ask, answer, lent, lender
        self._current = answer(ask)
        self._own: deque[Piece] = deque()  # pieces that no model wrote
        self._ring: Callable[[], None] = lambda: None
        self._written, self._rounds, self._numbered = OneRound(), 0, 0
        self._said_before = False  # in an earlier round
        self._usage: Usage | None = None
        self._lock = threading.Lock()  # of what follows, which any thread may cancel
        self._cancelled = False
        self._calling: Future[list[ToolResult]] | None = None

    @property
    def prompt_tokens(self) -> int:
        return self._current.prompt_tokens

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            self._current.cancel()
            if self._calling is not None:
                self._calling.cancel()

    def listen(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._current.listen(ring)

    def ready(self) -> Iterator[Piece]:
        current = self._current  # looked up first: results go before the round that was begun with them
        while self._own:
            yield self._own.popleft()
        for piece in current.ready():
            yield self._read(piece)

    def _read(self, piece: Piece) -> Piece:
        parts = tuple(self._part(part) for part in piece.parts)
        piece = replace(piece, parts=parts)
        if piece.finish is None:
            return piece
        self._usage = together(self._usage, piece.usage)
        if piece.finish is not Finish.STOP or not self._written.all_of(self._lent):
            return replace(piece, usage=self._usage)
        self._call()
        return replace(piece, finish=None, usage=None)

    def _part(self, part: AnswerPart) -> AnswerPart:
        """As the reader is told it."""
        if isinstance(part, CallBegun | Arguments | CallEnded):
            part = replace(part, index=part.index + self._numbered)
        begins = isinstance(part, Said) and self._said_before and not self._written.said
        self._written.add(part)
        return Said(PARAGRAPH + part.text) if begins and isinstance(part, Said) else part

    def _call(self) -> None:
        calls = [(self._lent[call.name], call.arguments) for call in self._written.calls.values()]
        with self._lock:
            if not self._cancelled:
                self._calling = self._lender.call(calls)
        if self._calling is None:
            self._post(Piece(finish=Finish.CANCELLED, usage=self._usage))
        else:
            self._calling.add_done_callback(self._called)

    def _called(self, calling: Future[list[ToolResult]]) -> None:
        """On the lender's thread, which renders nothing."""
        if calling.cancelled():
            self._post(Piece(finish=Finish.CANCELLED, usage=self._usage))
        elif not self._broke(calling):
            self._lender.pool.submit(self._go_on, calling.result()).add_done_callback(self._broke)

    def _broke(self, work: Future[Any]) -> bool:
        """Nobody else would hear of it, and the reader would wait for ever."""
        why = None if work.cancelled() else work.exception()
        if why is not None:
            reason = f"The answer broke off after its tools were called ({type(why).__name__})."
            self._post(Piece(finish=Finish.FAILED, reason=reason, usage=self._usage))
        return why is not None

    def _go_on(self, told: Sequence[ToolResult]) -> None:
        results = dict(zip(self._written.calls, told, strict=True))
        answered = [CallAnswered(index, result.text, result.failed) for index, result in results.items()]
        self._post(Piece(tuple(answered)))
        self._rounds += 1
        calling = Calling.NONE if self._rounds == MOST_ROUNDS else Calling.AUTO  # what was demanded has been called
        choice = ToolChoice(calling, parallel=self._ask.choice.parallel)
        turns = (*self._ask.turns[: -1 if self._ask.continues else None], *self._written.turns(results))
        self._ask = replace(self._ask, turns=turns, choice=choice, continues=False)
        self._numbered += len(results)
        self._said_before |= bool(self._written.said)
        self._written = OneRound()
        try:
            answer = self._answer(self._ask)
        except (RequestError, ModelError) as error:
            self._post(Piece(finish=Finish.REFUSED, reason=str(error), usage=self._usage))
            return
        with self._lock:
            self._current, self._calling = answer, None
            if self._cancelled:
                answer.cancel()
        answer.listen(self._ring)

    def _post(self, piece: Piece) -> None:
        self._own.append(piece)
        self._ring()


def together(before: Usage | None, usage: Usage | None) -> Usage | None:
    """What all rounds took: a prompt that is read again counts again, as tokens that were remembered."""
    if before is None or usage is None:
        return before or usage
    return Usage(*(a + b for a, b in zip(astuple(before), astuple(usage), strict=True)))
