"""gpt-oss's answers: messages on channels, each with a header that is not shown (`reasoning_formats.Channels`).

    <|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>

The prompt ends with the first message's <|start|>assistant. A message to a recipient (`to=functions.x`) is a call:
until somebody reads calls it is said as it was written, header and all, and so is a header that no message follows.
"""

from __future__ import annotations

import re

from ..parts import Said, Thought
from .items import Hidden, Item
from .reasoning_formats import Channels

RECIPIENT = re.compile(r"\s*(t|to|to=\S*)?\s*")  # what a header may begin with before it names its channel
ADDRESSED = re.compile(r"(^|\s)to=")


class ChannelReader:
    def __init__(self, form: Channels, prompt: str) -> None:
        self._form = form
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
            return [self._kind(text)]
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
            before = self.finish() if text == form.start else []
            self._header = (self._header or "") + text
            return before
        if text in form.ends:
            before, self._kind = self.finish(), Said
            return [*before, Hidden(text)]
        if self._header is not None:
            self._header += text
            return []
        return [self._kind(text)]  # where no marker belongs

    def finish(self) -> list[Item]:
        header, self._header, self._prompted = self._header, None, ""
        if header is not None:
            self._kind = Said
        return [Said(header)] if header else []

    @property
    def thinking(self) -> bool:
        return self._header is None and self._kind is Thought

    def called(self, *, within: bool) -> list[Item]:
        return self.finish()

    def _begun(self, header: str) -> list[Item]:
        whole, self._header, self._prompted = self._prompted + header, None, ""
        self._kind = self._kind_of(whole)
        return [Said(header) if ADDRESSED.search(whole) else Hidden(header)]

    def _kind_of(self, header: str) -> type[Said | Thought]:
        if ADDRESSED.search(header):
            return Said
        channel = header.partition(self._form.channel)[2].split()
        name = re.match(r"[\w-]*", channel[0]) if channel else None
        return Thought if name is not None and name[0] in self._form.thoughts else Said
