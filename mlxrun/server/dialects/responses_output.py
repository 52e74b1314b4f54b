"""The items that an answer is told in, and the events that tell of each, in order. Knows no request and no frame.

A stream and a whole answer come of the same items: the one tells the events, the other only what is left at the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...parts import AnswerPart, Arguments, CallBegun, CallEnded, Piece, Said, Thought, Token, name_of
from ..dialect import Json
from ..errors import ApiError
from ..tools import InputReader
from .openai_chat import described
from .responses_items import carried
from .responses_tools import OfferedTool

Event = tuple[str, Json]
COMPLETED, INCOMPLETE, IN_PROGRESS = "completed", "incomplete", "in_progress"


@dataclass(frozen=True, slots=True)
class Telling:
    """How an answer is told."""

    offered: Mapping[str, OfferedTool]
    summary: bool = False  # thoughts as a summary
    encrypted: bool = False  # thoughts once more, for a client that keeps nothing readable
    logprobs: bool = False


class OutputItem:
    """One item of the output while it grows. `item` is what has come of it."""

    def __init__(self, index: int, kind: str, prefix: str, **item: Any) -> None:
        self._index = index
        self.item: Json = {"id": f"{prefix}_{secrets.token_hex(16)}", "type": kind, "status": IN_PROGRESS, **item}

    def begin(self) -> Iterator[Event]:
        yield "response.output_item.added", {"output_index": self._index, "item": self.item}

    def end(self, status: str) -> Iterator[Event]:
        self.item["status"] = status
        yield "response.output_item.done", {"output_index": self._index, "item": self.item}

    def _at(self, **more: Any) -> Json:
        return {"item_id": self.item["id"], "output_index": self._index, **more}


class MessageItem(OutputItem):
    def __init__(self, index: int) -> None:
        super().__init__(index, "message", "msg", role="assistant", content=[])
        self._part: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._texts: list[str] = []

    def begin(self) -> Iterator[Event]:
        yield from super().begin()
        yield "response.content_part.added", self._at(content_index=0, part=self._part)
        self.item["content"] = [self._part]

    def push(self, text: str, logprobs: list[Json]) -> Iterator[Event]:
        self._texts.append(text)
        self._part["logprobs"] += logprobs
        yield "response.output_text.delta", self._at(content_index=0, delta=text, logprobs=logprobs)

    def end(self, status: str) -> Iterator[Event]:
        part = self._part
        part["text"] = "".join(self._texts)
        at = self._at(content_index=0)
        yield "response.output_text.done", {**at, "text": part["text"], "logprobs": part["logprobs"]}
        yield "response.content_part.done", {**at, "part": part}
        yield from super().end(status)


class ReasoningItem(OutputItem):
    """Thoughts, as text of their own or as a summary: never both."""

    def __init__(self, index: int, telling: Telling) -> None:
        super().__init__(index, "reasoning", "rs", summary=[], content=[], encrypted_content=None)
        self._telling = telling
        self._texts: list[str] = []
        self._place = "summary" if telling.summary else "content"
        self._counted = {f"{self._place}_index": 0}
        self._part: Json = {"type": "summary_text" if telling.summary else "reasoning_text", "text": ""}
        self._part_event = f"response.{'reasoning_summary' if telling.summary else 'content'}_part"
        self._text_event = f"response.reasoning_{'summary_' if telling.summary else ''}text"

    def begin(self) -> Iterator[Event]:
        yield from super().begin()
        yield f"{self._part_event}.added", self._at(**self._counted, part=self._part)
        self.item[self._place] = [self._part]

    def push(self, text: str) -> Iterator[Event]:
        self._texts.append(text)
        yield f"{self._text_event}.delta", self._at(**self._counted, delta=text)

    def end(self, status: str) -> Iterator[Event]:
        text = self._part["text"] = "".join(self._texts)
        if self._telling.encrypted:
            self.item["encrypted_content"] = carried(text)
        yield f"{self._text_event}.done", self._at(**self._counted, text=text)
        yield f"{self._part_event}.done", self._at(**self._counted, part=self._part)
        yield from super().end(status)


class FunctionCallItem(OutputItem):
    def __init__(self, index: int, call: CallBegun, offered: OfferedTool | None) -> None:
        super().__init__(index, "function_call", "fc", **called(call, offered), arguments="")
        self._texts: list[str] = []

    def push(self, text: str) -> Iterator[Event]:
        self._texts.append(text)
        yield "response.function_call_arguments.delta", self._at(delta=text)

    def end(self, status: str) -> Iterator[Event]:
        self.item["arguments"] = text = "".join(self._texts)
        yield "response.function_call_arguments.done", self._at(name=self.item["name"], arguments=text)
        yield from super().end(status)


class CustomCallItem(OutputItem):
    """A call whose input is a text, which the model writes as a property of a JSON object."""

    def __init__(self, index: int, call: CallBegun, offered: OfferedTool) -> None:
        super().__init__(index, "custom_tool_call", "ctc", **called(call, offered), input="")
        self._reader = InputReader()

    def push(self, text: str) -> Iterator[Event]:
        if told := self._reader.push(text):
            yield "response.custom_tool_call_input.delta", self._at(delta=told)

    def end(self, status: str) -> Iterator[Event]:
        if rest := self._reader.finish():
            yield "response.custom_tool_call_input.delta", self._at(delta=rest)
        self.item["input"] = self._reader.text
        yield "response.custom_tool_call_input.done", self._at(input=self._reader.text)
        yield from super().end(status)


def called(call: CallBegun, offered: OfferedTool | None) -> Json:
    """In the client's own names."""
    name = call.name if offered is None else offered.name
    namespace = {} if offered is None or offered.namespace is None else {"namespace": offered.namespace}
    return {"call_id": call.id, "name": name, **namespace}


class Output:
    """All items of an answer, part by part."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self._items: list[OutputItem] = []
        self._open: MessageItem | ReasoningItem | None = None
        self._calls: dict[int, FunctionCallItem | CustomCallItem] = {}  # that go on, by their number
        self._tokens: list[Token] = []  # of a text that is still to come

    @property
    def items(self) -> list[Json]:
        return [item.item for item in self._items]

    def push(self, piece: Piece) -> Iterator[Event]:
        if self._telling.logprobs:
            self._tokens += piece.tokens
        for part in piece.parts:
            yield from self._push(part)

    def end(self, status: str) -> Iterator[Event]:
        yield from self._close(status)
        for index in sorted(self._calls):
            yield from self._calls.pop(index).end(INCOMPLETE)

    def _push(self, part: AnswerPart) -> Iterator[Event]:
        match part:
            case Said(text):
                message = self._open if isinstance(self._open, MessageItem) else None
                if message is None:
                    message = MessageItem(len(self._items))
                    yield from self._begin(message)
                    self._open = message
                yield from message.push(text, self._logprobs())
            case Thought(text):
                reasoning = self._open if isinstance(self._open, ReasoningItem) else None
                if reasoning is None:
                    reasoning = ReasoningItem(len(self._items), self._telling)
                    yield from self._begin(reasoning)
                    self._open = reasoning
                self._tokens.clear()
                yield from reasoning.push(text)
            case CallBegun():
                call = self._call(part)
                yield from self._begin(call)
                self._calls[part.index] = call
            case Arguments(index, text):
                self._tokens.clear()
                yield from self._calls[index].push(text)
            case CallEnded(index):
                self._tokens.clear()
                yield from self._calls.pop(index).end(COMPLETED)
            case _:
                raise ApiError(500, f"The model wrote {name_of(part)}, and /v1/responses has no place for it.")

    def _begin(self, item: OutputItem) -> Iterator[Event]:
        yield from self._close(COMPLETED)
        self._items.append(item)
        yield from item.begin()

    def _close(self, status: str) -> Iterator[Event]:
        if self._open is not None:
            closing, self._open = self._open, None
            yield from closing.end(status)

    def _call(self, call: CallBegun) -> FunctionCallItem | CustomCallItem:
        offered = self._telling.offered.get(call.name)
        if offered is not None and offered.tool.custom:
            return CustomCallItem(len(self._items), call, offered)
        return FunctionCallItem(len(self._items), call, offered)

    def _logprobs(self) -> list[Json]:
        told = [described(token) for token in self._tokens]
        self._tokens.clear()
        return told


def exhausted(events: Iterable[Event]) -> None:
    for _ in events:
        pass
