"""A question or a text as it is read to become a vector for each token: which tokens, whom others look at, and which of
them have vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core import ContextError, LateForm, RequestError
from .embedded import LETTERS
from .long_text import ids_within
from .tokenizer import Tokenizer, well_formed

FILLERS = ("[MASK]", "<mask>", "<|mask|>")


@dataclass(frozen=True, slots=True)
class LateRows:
    ids: tuple[int, ...]
    seen: int  # so many of them, from the first on, are looked at
    kept: tuple[int, ...]  # rows that have vectors


@dataclass(frozen=True, slots=True)
class LateReader:
    tokenizer: Tokenizer
    context: int
    form: LateForm
    most: int | None = None  # no more tokens of a text are read

    def read(self, text: str, *, question: bool, cut: bool = False) -> LateRows:
        return self.question(text, cut=cut) if question else self.document(text, cut=cut)

    def question(self, text: str, *, cut: bool = False) -> LateRows:
        """All its rows have vectors, those too that fill it up."""
        form, length = self.form, min(self.form.question_length, self.context)
        ids = self._ids(text, form.question, length, cut=cut)
        fillers = length - len(ids) if form.fills else 0
        whole = ids + (self._filler(form.filler),) * fillers if fillers else ids
        return LateRows(whole, len(whole) if form.attends else len(ids), tuple(range(len(whole))))

    def document(self, text: str, *, cut: bool = False) -> LateRows:
        length, own = self.form.document_length, self.tokenizer
        if self.most is not None:
            length = min(length, self.most + len(own.prefix) + len(own.suffix) + bool(self.form.document))
        ids = self._ids(text, self.form.document, length, cut=cut)
        never = self._skipped(self.form.skipped)
        kept = tuple(row for row, token in enumerate(ids) if token not in never)
        return LateRows(ids, len(ids), kept or (0,))

    def _ids(self, text: str, mark: str, length: int, *, cut: bool) -> tuple[int, ...]:
        own, length = self.tokenizer, min(length, self.context)
        text = well_formed(text)
        if cut:
            ids = own.encode(text[:LETTERS], special=False)
        else:
            ids = ids_within(text, own, self.context, lambda one: own.encode(one, special=False))
        marks = () if not mark else (self._token(mark),)
        room = length - len(own.prefix) - len(own.suffix) - len(marks)
        if len(ids) > room and not cut:
            tokens = len(ids) + length - room
            message = f"A text has {tokens} tokens; this model reads at most {length} of one of its kind."
            raise ContextError(message, tokens, length)
        whole = (*own.prefix, *ids[: max(room, 1)], *own.suffix)
        return (*whole[:1], *marks, *whole[1:])

    def _token(self, text: str) -> int:
        found = self.tokenizer.added_id(text)
        if found is None:
            raise RequestError(f"This model's tokenizer has no token {text!r}, which its texts begin with.")
        return found

    def _filler(self, text: str | None) -> int:
        for one in (text,) if text else FILLERS:
            found = self.tokenizer.added_id(one)
            if found is not None:
                return found
        raise RequestError("This model's tokenizer has no token to fill questions up with.")

    def _skipped(self, words: tuple[str, ...]) -> frozenset[int]:
        wanted, own = set(words), self.tokenizer
        return (
            frozenset(token for token in range(own.vocab_size) if own.piece(token) in wanted) if wanted else frozenset()
        )
