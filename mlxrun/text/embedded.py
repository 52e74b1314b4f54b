"""A text as it is read to become a vector: a prompt before it, what its tokenizer puts round it, cut where it may be.

What people wrote in it stays text, whatever control tokens it spells; those of a prompt, which the model's authors
wrote, are meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core import RequestError
from .long_text import ids_within
from .quoting import Quoting
from .tokenizer import Tokenizer, well_formed

LETTERS = 1 << 20  # of a text that may be cut, no more are looked at


@dataclass(frozen=True, slots=True)
class Embedded:
    ids: tuple[int, ...]
    prompt: int = 0  # how many of them, from the first on, are of the prompt


@dataclass(frozen=True, slots=True)
class TextReader:
    tokenizer: Tokenizer
    context: int
    prompts: Mapping[str, str] = field(default_factory=dict)
    usual: str | None = None  # the name of the prompt where nobody says one
    longest: int | None = None  # tokens that a text is cut to, where it may be cut; None: the context
    lower: bool = False  # texts are read in small letters

    def read(self, text: str, prompt: str | None = None, *, cut: bool = False) -> Embedded:
        """`prompt`: the name of one; "": none. `cut`: what is too long is cut; else a ContextError."""
        before = self._prompt(prompt)
        ids, own = self._whole(before, text, cut=cut), self.tokenizer
        prompted = len(own.prefix) + len(self._ids(before, "")) if before else 0
        return Embedded(ids, min(prompted, len(ids) - 1))

    def cut(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Ids that somebody else made of a text."""
        return ids[: self._most]

    @property
    def _most(self) -> int:
        return min(self.context, self.longest or self.context)

    def _prompt(self, name: str | None) -> str:
        name = self.usual if name is None else name
        if not name:
            return ""
        if name not in self.prompts:
            there = f"it has {', '.join(sorted(self.prompts))}" if self.prompts else "it has none"
            raise RequestError(f"This model has no prompt {name!r}; {there}.")
        return self.prompts[name]

    def _whole(self, before: str, text: str, *, cut: bool) -> tuple[int, ...]:
        own = self.tokenizer
        if cut:
            room = max(1, self._most - len(own.prefix) - len(own.suffix))
            ids = self._ids(before, text[:LETTERS])[:room]
        else:
            ids = ids_within(well_formed(before + text), own, self.context, lambda _: self._ids(before, text))
        return (*own.prefix, *ids, *own.suffix)

    def _ids(self, before: str, text: str) -> list[int]:
        text = well_formed(text)
        before, text = (before.lower(), text.lower()) if self.lower else (before, text)
        own = self.tokenizer
        if any(control in before for control in own.controls):
            return own.encode_quoted(before + Quoting(own.controls).text(text))
        return own.encode(before + text, special=False)
