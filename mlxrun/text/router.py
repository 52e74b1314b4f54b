"""Token ids of one answer in, its ordered parts out: the one reader of what a model writes.

Markers are told from text here, by their ids, before the detokenizer drops control tokens; what they mean is the
format's business (`reasoning_formats`). The result does not depend on how the ids were cut into pushes. Knows no
engine, no stop strings and no dialect.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..parts import Said
from .detokenizer import Detokenizer
from .harmony import ChannelReader
from .items import Item
from .reasoning import BlockReader, PartReader, opens
from .reasoning_formats import Channels, ReasoningFormat
from .tokenizer import Tokenizer


class PlainReader:
    """A text that goes on: all of it is said."""

    def push(self, text: str) -> list[Item]:
        return [Said(text)] if text else []

    def marker(self, text: str, *, control: bool) -> list[Item]:
        return self.push(text)

    def finish(self) -> list[Item]:
        return []


class PartRouter:
    def __init__(self, tokenizer: Tokenizer, form: ReasoningFormat | None, prompt: str = "") -> None:
        """`form` None: nothing is a marker. `prompt`: as it was rendered; it may open the answer's first block."""
        self._text = Detokenizer(tokenizer)
        ids = {tokenizer.added_id(text): text for text in (form.markers if form else ())}
        self._markers = {i: (text, tokenizer.is_special(i)) for i, text in ids.items() if i is not None}
        self._ids = frozenset(self._markers)
        self._reader: PartReader = reader_of(form, prompt, tokens=None not in ids)

    def push(self, ids: Sequence[int]) -> list[Item]:
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

    def finish(self) -> list[Item]:
        return self._reader.push(self._text.finish()) + self._reader.finish()


def reader_of(form: ReasoningFormat | None, prompt: str, *, tokens: bool) -> PartReader:
    if form is None:
        return PlainReader()
    if isinstance(form, Channels):
        return ChannelReader(form, prompt)
    return BlockReader(form, tokens=tokens, opened=opens(form, prompt))
