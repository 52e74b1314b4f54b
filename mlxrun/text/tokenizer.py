"""One interface over every kind of tokenizer: text to token ids and back, and what the ids mean.

`token_bytes` is the ground: each token stands for the same bytes wherever it occurs, so decoding is
joining bytes, and streaming is the same one token at a time (detokenizer.py). What a tokenizer puts
around a whole text (`prefix`, `suffix`) is told and never added behind the caller's back: a chat
template writes its own. Knows no model, no template.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from .quoting import MARK, well_formed

__all__ = ["Marks", "Pair", "Tokenizer", "well_formed"]


@dataclass(frozen=True, slots=True)
class Marks:
    """The ids with a meaning of their own."""

    bos_id: int | None
    eos_ids: frozenset[int]
    prefix: tuple[int, ...] = ()  # put before a text that stands alone
    suffix: tuple[int, ...] = ()  # and after it


@dataclass(frozen=True, slots=True)
class Pair:
    """What is put round two texts that are read together."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    second: int = 0  # the type of tokens from the second text on; before it they are of type 0

    def joined(self, one: Sequence[int], other: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(ids, the type of each)"""
        first, last = (*self.before, *one, *self.between), (*other, *self.after)
        return first + last, (0,) * len(first) + (self.second,) * len(last)


class Tokenizer(ABC):
    vocab_size: int  # every id lies below this; an id may still stand for nothing

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self._bytes: dict[int, bytes] = {}

    @abstractmethod
    def encode(self, text: str, *, special: bool) -> list[int]:
        """The ids of `text`, nothing added. `special`: control tokens written out in it are meant as such."""

    def encode_quoted(self, text: str) -> list[int]:
        """As `encode` with `special`, of a text in which marks (quoting.py) keep control tokens from being meant."""
        return self.encode(text.replace(MARK, ""), special=True)  # right where there are no control tokens

    @cached_property
    def longest(self) -> int:
        """Bytes that no token is longer than; a mark that keeps one from being meant counts with it."""
        return max(map(len, map(self.token_bytes, range(self.vocab_size))), default=1) + len(MARK.encode())

    @property
    def controls(self) -> Collection[str]:
        """The texts that `encode` takes for control tokens."""
        return ()

    @property
    def added(self) -> Collection[str]:
        """The texts for which tokens were added to the vocabulary, control tokens among them."""
        return self.controls

    def added_id(self, text: str) -> int | None:
        """The token that was added to the vocabulary for this very text and is always taken whole, if there is one."""
        return None

    @abstractmethod
    def piece(self, token: int) -> str:
        """The token as its vocabulary spells it; empty for an id that stands for nothing."""

    @abstractmethod
    def is_special(self, token: int) -> bool:
        """Whether it is a control token, which is never shown."""

    @abstractmethod
    def _spell(self, token: int) -> bytes:
        """The bytes that the token stands for."""

    @property
    def strips_start(self) -> bool:
        """Whether `encode` puts a space before a text, so that decoding a whole one takes it away."""
        return False

    @property
    def bos_id(self) -> int | None:
        return self.marks.bos_id

    @property
    def eos_ids(self) -> frozenset[int]:
        return self.marks.eos_ids

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.marks.prefix

    @property
    def suffix(self) -> tuple[int, ...]:
        return self.marks.suffix

    @property
    def pair(self) -> Pair | None:
        """None: its file does not say how two texts are read together."""
        return None

    @property
    def add_bos(self) -> bool:
        return self.bos_id is not None and self.prefix[:1] == (self.bos_id,)

    def token_bytes(self, token: int) -> bytes:
        found = self._bytes.get(token)
        if found is None:
            found = self._spell(token) if 0 <= token < self.vocab_size else b""
            self._bytes[token] = found
        return found

    def decode(self, ids: Iterable[int], skip_special: bool = True, *, whole: bool = False) -> str:
        """The text that these tokens add to what stands before them. `whole`: nothing stands before them."""
        parts = [self.token_bytes(i) for i in ids if not (skip_special and self.is_special(i))]
        if whole and self.strips_start and parts:
            parts[0] = parts[0].removeprefix(b" ")
        return b"".join(parts).decode("utf-8", "replace")
