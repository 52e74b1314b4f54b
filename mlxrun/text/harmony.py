"""gpt-oss's answers: messages on channels, each with a header that is not shown (`reasoning_formats.Channels`).

    <|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>

The prompt ends with the first message's <|start|>assistant. A message to a declared tool is a call, on whichever
channel and however the rest of its header reads. One to anybody else is said as it was written, header and all, and so
is a header that no message follows.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ..parts import Arguments, CallBegun, CallEnded, Said, Thought
from .incoming import Broken, Incoming, Waiting
from .items import Hidden, Item
from .marker_letters import MarkerLetters
from .reasoning_formats import Channels
from .tool_formats import RecipientHead, ToolFormat
from .tool_ids import CallIds
from .tool_values import read_object

RECIPIENT = re.compile(r"\s*(t|to|to=\S*)?\s*")  # what a header may begin with before it names its channel
ADDRESSED = re.compile(r"(^|\s)to=")
GLUED = ("json", "code")  # types of content that models write without a space behind the name


class MessageCalls:
    """The messages that are calls of declared tools."""

    def __init__(self, form: ToolFormat, names: Collection[str], letters: MarkerLetters, history: int = 0) -> None:
        to = form.head.to if isinstance(form.head, RecipientHead) else "{name}"
        before, _, after = map(re.escape, to.partition("{name}"))
        self._to = re.compile(rf"to={before}([\w.:-]+){after}")
        self._names, self._letters, self._ids = names, letters, CallIds(form.ids, history)
        self._index = -1
        self._begin_arguments()

    def _begin_arguments(self) -> None:
        self._source, self._told, self._some = Incoming(self._letters), list[str](), False
        self._steps: Waiting | None = read_object(self._source, self._told.append)

    def begin(self, header: str) -> list[Item]:
        """What tells the call that a message with this header is; nothing where it is none."""
        found = self._to.search(header)
        written = found[1] if found else ""
        name = next((name for name in (written, *map(written.removesuffix, GLUED)) if name in self._names), None)
        if name is None:
            return []
        self._index += 1
        self._begin_arguments()
        return [CallBegun(self._index, self._ids.next(name, None), name)]

    def push(self, text: str) -> list[Item]:
        """More of its arguments. Behind them, or where they break, a text is said."""
        self._some = self._some or bool(text.strip())
        self._source.feed(text)
        return self._read() if self._some else []

    def end(self, *, marked: bool) -> list[Item]:
        """The message is over. `marked`: by its marker; then no text at all is no arguments."""
        if marked and not self._some:
            return [Arguments(self._index, "{}"), CallEnded(self._index)]
        self._source.ended = True
        return self._read()

    def _read(self) -> list[Item]:
        items: list[Item] = []
        ended = False
        try:
            if self._steps is not None:
                ended = next(self._steps, self) is self
        except Broken:
            self._steps = None
        if self._told:
            items.append(Arguments(self._index, "".join(self._told)))
            self._told.clear()
        if ended:
            self._steps = None
            items.append(CallEnded(self._index))
        if self._steps is None and (rest := self._source.text[self._source.at :]).strip():
            items.append(Said(rest))
            self._source.at = len(self._source.text)
        return items


class ChannelReader:
    def __init__(self, form: Channels, prompt: str, calls: MessageCalls | None = None) -> None:
        self._form, self._calls = form, calls
        self._calling = False
        self._kind: type[Said | Thought] = Said
        self._header: str | None = ""  # as it was written so far; None: a message's text is coming
        self._prompted = ""  # the part of the header that stands in the prompt
        channel, message, text = prompt.rpartition(form.start)[2].partition(form.message)
        if message and not any(end in text for end in form.ends):
            self._header, self._kind = None, self._kind_of(channel)
        elif not message and form.start in prompt:
            self._prompted = channel

    def push(self, text: str) -> list[Item]:
        if not text:
            return []
        if self._header is None:
            return self._calls.push(text) if self._calls and self._calling else [self._kind(text)]
        self._header += text
        unmarked = self._form.channel not in self._prompted + self._header and self._form.start not in self._header
        if unmarked and not RECIPIENT.fullmatch(self._header):
            return self.finish()  # it speaks without a header
        return []

    def marker(self, text: str, *, control: bool) -> list[Item]:
        form = self._form
        if text == form.message and self._header is not None:
            return self._begun(self._header + text)
        if text in (form.start, form.channel):
            before = self.finish() if text == form.start else self._end_call(marked=False)
            self._header = (self._header or "") + text
            return before
        if text in form.ends:
            before = [*self._end_call(marked=True), *self.finish()]
            self._kind = Said
            return [*before, Hidden(text)]
        if self._header is not None:
            self._header += text
            return []
        return self.push(text)  # where no marker belongs

    def finish(self) -> list[Item]:
        header, self._header, self._prompted = self._header, None, ""
        if header is not None:
            self._kind = Said
        return self._end_call(marked=False) + ([Said(header)] if header else [])

    def _end_call(self, *, marked: bool) -> list[Item]:
        calling, self._calling = self._calling, False
        return self._calls.end(marked=marked) if self._calls and calling else []

    @property
    def thinking(self) -> bool:
        return self._header is None and self._kind is Thought

    def called(self, *, within: bool) -> list[Item]:
        return self.finish()

    def _begun(self, header: str) -> list[Item]:
        whole, self._header, self._prompted = self._prompted + header, None, ""
        self._kind = self._kind_of(whole)
        if self._calls and (call := self._calls.begin(whole)):
            self._calling = True
            return [Hidden(header), *call]
        return [Said(header) if ADDRESSED.search(whole) else Hidden(header)]

    def _kind_of(self, header: str) -> type[Said | Thought]:
        if ADDRESSED.search(header):
            return Said
        channel = header.partition(self._form.channel)[2].split()
        name = re.match(r"[\w-]*", channel[0]) if channel else None
        return Thought if name is not None and name[0] in self._form.thoughts else Said
