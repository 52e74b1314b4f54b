"""Text between two others, for models that were taught to fill it in: told by the tokens that they have for it.

To add a way of writing it, add an entry to FORMATS. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .tokenizer import Tokenizer, well_formed


@dataclass(frozen=True, slots=True)
class InfillFormat:
    prefix: str  # stands before what comes first
    suffix: str
    middle: str  # after it the model writes what lies between
    suffix_first: bool = False
    file: str | None = None  # stands before the name of a file, where the model was taught to know several
    ends: tuple[str, ...] = ()  # after which nothing of the middle comes


FORMATS = (
    InfillFormat(  # Qwen coder; CodeGemma has the same three
        *("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        file="<|file_sep|>",
        ends=("<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>"),
    ),
    InfillFormat(  # StarCoder, Granite code
        *("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        file="<file_sep>",
        ends=("<|endoftext|>", "<fim_pad>", "<repo_name>", "<file_sep>"),
    ),
    InfillFormat("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek coder: its middle comes last too
    InfillFormat("▁<PRE>", "▁<SUF>", "▁<MID>", ends=("▁<EOT>",)),  # Code Llama
    InfillFormat("[PREFIX]", "[SUFFIX]", "", suffix_first=True),  # Codestral
)


@dataclass(frozen=True, slots=True)
class InfillPrompt:
    before: str
    after: str
    files: tuple[tuple[str, str], ...] = ()  # names and texts of others, which the text may be like

    @property
    def letters(self) -> int:
        return len(self.before) + len(self.after) + sum(len(name) + len(text) for name, text in self.files)


@dataclass(frozen=True, slots=True)
class Infill:
    """How one model is asked to fill in."""

    form: InfillFormat
    tokenizer: Tokenizer

    def prompt(self, asked: InfillPrompt) -> list[int]:
        form, own = self.form, self.tokenizer
        first, last = self._part(form.prefix, asked.before), self._part(form.suffix, asked.after)
        around = [*last, *first] if form.suffix_first else [*first, *last]
        middle = [] if not form.middle else [self._id(form.middle)]
        return [*own.prefix, *self._files(asked.files), *around, *middle]

    @property
    def ends(self) -> frozenset[int]:
        form = self.form
        texts = (*form.ends, form.prefix, form.suffix, form.middle)
        found = (self.tokenizer.added_id(text) for text in texts if text)
        return frozenset(token for token in found if token is not None)

    def _files(self, files: Sequence[tuple[str, str]]) -> list[int]:
        mark = None if self.form.file is None else self.tokenizer.added_id(self.form.file)
        if mark is None:
            return [token for _, text in files for token in self._text(f"{text}\n")]
        told = [token for name, text in files for token in (mark, *self._text(f"{name}\n{text}\n"))]
        return [*told, mark] if told else []

    def _part(self, mark: str, text: str) -> list[int]:
        return [self._id(mark), *self._text(text)]

    def _text(self, text: str) -> list[int]:
        """What a person wrote holds no control tokens."""
        return self.tokenizer.encode(well_formed(text), special=False) if text else []

    def _id(self, mark: str) -> int:
        found = self.tokenizer.added_id(mark)
        assert found is not None
        return found


def infill_of(tokenizer: Tokenizer) -> Infill | None:
    """None: this model was not taught to."""
    for form in FORMATS:
        marks = [mark for mark in (form.prefix, form.suffix, form.middle) if mark]
        if all(tokenizer.added_id(mark) is not None for mark in marks):
            return Infill(form, tokenizer)
    return None
