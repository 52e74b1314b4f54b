"""Token ids of one answer in, its ordered parts out: the one reader of what a model writes.

Markers are told from text here, by their ids, before the detokenizer drops control tokens; what they mean is the
format's business (`reasoning_formats`). The result does not depend on how the ids were cut into pushes. Knows no
engine, no stop strings and no dialect.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..parts import Said
from ..turns import Tool
from .detokenizer import Detokenizer
from .harmony import ChannelReader, MessageCalls
from .items import Item
from .marker_letters import BREAK, MarkerLetters
from .reasoning import BlockReader, PartReader, opens
from .reasoning_formats import Channels, ReasoningFormat
from .tokenizer import Tokenizer
from .tool_formats import RecipientHead, ToolFormat
from .tool_parser import CallReader


class PlainReader:
    """A text that goes on: all of it is said."""

    def push(self, text: str) -> list[Item]:
        return [Said(text)] if text else []

    def marker(self, text: str, *, control: bool) -> list[Item]:
        return self.push(text)

    def finish(self) -> list[Item]:
        return []

    @property
    def thinking(self) -> bool:
        return False

    def called(self, *, within: bool) -> list[Item]:
        return []


class PartRouter:
    """Of a model that is given no tools nothing is a call."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        form: ReasoningFormat | None,
        prompt: str = "",
        format: ToolFormat | None = None,
        tools: Sequence[Tool] = (),
        history: int = 0,
    ) -> None:
        """`form` None: nothing marks thoughts. `prompt`: as it was rendered; it may open the answer's first block.
        `history`: how many calls the earlier turns have."""
        self._text = Detokenizer(tokenizer)
        ids = {tokenizer.added_id(text): text for text in (form.markers if form else ())}
        self._markers = {i: (text, tokenizer.is_special(i)) for i, text in ids.items() if i is not None}
        self._ids = frozenset(self._markers)
        self._tokenizer, self._marks = tokenizer, MarkerLetters(tokenizer)
        self._calls = messages = None
        if format is not None and tools and isinstance(format.head, RecipientHead):
            messages = MessageCalls(format, {tool.name for tool in tools}, self._marks, history)
        self._reader = reader_of(form, prompt, tokens=None not in ids, calls=messages)
        if format is not None and tools and messages is None:
            thoughts = [letter for text in ids.values() if (letter := self._marks.add(text))]
            self._calls = CallReader(format, tools, self._reader, self._marks, thoughts=thoughts, history=history)

    def push(self, ids: Sequence[int]) -> list[Item]:
        if self._calls is not None:
            return self._calls.push(self._written(ids))
        if self._ids.isdisjoint(ids):
            return self._reader.push(self._text.push(ids))
        items: list[Item] = []
        for token in ids:
            if token in self._markers:
                text, control = self._markers[token]
                items += self._reader.push(self._text.finish())  # a character that it cuts off
                items += self._reader.marker(text, control=control)
            else:
                items += self._reader.push(self._text.push((token,)))
        return items

    @property
    def thinking(self) -> bool:
        """Whether what comes next is a thought, unless a marker comes."""
        return self._reader.thinking

    def _written(self, ids: Sequence[int]) -> str:
        """The text of tokens, a marker's as the letter that stands for it."""
        texts: list[str] = []
        plain: list[int] = []
        for token in ids:
            letter = self._marks.letters.get(token) or (BREAK if self._tokenizer.is_special(token) else None)
            if letter is None:
                plain.append(token)
            else:
                texts += [self._text.push(plain), self._text.finish(), letter]
                plain.clear()
        return "".join([*texts, self._text.push(plain)])

    def finish(self) -> list[Item]:
        if self._calls is not None:
            return self._calls.push(self._text.finish()) + self._calls.finish()
        return self._reader.push(self._text.finish()) + self._reader.finish()


def reader_of(
    form: ReasoningFormat | None, prompt: str, *, tokens: bool, calls: MessageCalls | None = None
) -> PartReader:
    if form is None:
        return PlainReader()
    if isinstance(form, Channels):
        return ChannelReader(form, prompt, calls)
    return BlockReader(form, tokens=tokens, opened=opens(form, prompt))
