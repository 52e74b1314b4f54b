"""Telling thoughts from what is said where markers stand round the thoughts (`reasoning_formats.ThoughtBlock`).

A marker that is a token of its own counts as that token alone: the same letters are text. One that is a control
token may open thoughts anywhere. Any other only opens them at the start of an answer: later the model may be
writing about markers. Text is held back only while it may still become a marker, and at the end it is flushed as
what it was. Knows no model and no tokenizer: the router hands it text and marker tokens.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from ..parts import Said, Thought
from .items import Hidden, Item, held_back
from .reasoning_formats import ThoughtBlock


class PartReader(Protocol):
    """One answer's text and marker tokens in, parts out."""

    def push(self, text: str) -> list[Item]: ...

    def marker(self, text: str, *, control: bool) -> list[Item]:
        """One of the format's markers came as its token. `control`: as a control token, which is never text."""

    def finish(self) -> list[Item]:
        """What was held back, now that nothing more will come."""

    @property
    def thinking(self) -> bool:
        """Whether what comes now is a thought."""

    def called(self, *, within: bool) -> list[Item]:
        """A tool is called here: what was held back. That ends thoughts, unless calls stand `within` them; they may
        come again."""


class At(Enum):
    START = auto()
    LABEL = auto()  # right after an opener that a label follows
    THOUGHTS = auto()
    AFTER = auto()  # right after the thoughts, where a text may open the answer
    ANSWER = auto()  # inside such an answer
    PLAIN = auto()  # no text has a meaning any more


class BlockReader:
    def __init__(self, form: ThoughtBlock, *, tokens: bool, opened: bool) -> None:
        """`tokens`: the markers come as tokens, so their letters mean nothing. `opened`: by the prompt already."""
        self._form, self._tokens = form, tokens
        self._at = At.THOUGHTS if opened else At.START
        self._held = ""
        self._cut = False  # a call ended the thoughts: their closer may still come, and closes nothing

    def push(self, text: str) -> list[Item]:
        if self._at is At.PLAIN:
            return [Said(text)] if text else []
        if self._at is At.THOUGHTS and self._tokens:
            return [Thought(text)] if text else []
        text, self._held = self._held + text, ""
        items: list[Item] = []
        while text:
            text = self._read(text, items)
        return items

    def marker(self, text: str, *, control: bool) -> list[Item]:
        thinking = self.thinking
        if text == self._form.open and not thinking and (control or self._at is At.START):
            before = [] if self._at is At.START else self.finish()
            space, self._held = self._held, ""
            self._at = At.LABEL if self._form.label else At.THOUGHTS
            return [*before, Hidden(text), *([Thought(space)] if space else [])]
        if text == self._form.close and thinking:
            before = self.finish() if self._at is At.THOUGHTS else []
            self._held = ""
            self._at = At.AFTER if self._form.answer else At.PLAIN
            return [*before, Hidden(text)]
        if text == self._form.close and self._cut:
            self._cut = False
            return [Hidden(text)]
        return [Hidden(text)] if control else self.push(text)

    def finish(self) -> list[Item]:
        held, self._held = self._held, ""
        kind = Thought if self.thinking else Said
        return [kind(held)] if held else []

    @property
    def thinking(self) -> bool:
        return self._at in (At.THOUGHTS, At.LABEL)

    def called(self, *, within: bool) -> list[Item]:
        held = self.finish()
        if self._at is not At.ANSWER and not (within and self.thinking):
            self._cut = self._cut or self.thinking
            self._at = At.START
        return held

    def _read(self, text: str, items: list[Item]) -> str:
        """Take what is certain from the start of `text`; what is returned is read as what comes then."""
        form = self._form
        match self._at:
            case At.START if self._tokens:
                return self._opener(text, None, At.PLAIN, items)
            case At.START if self._cut and _may_begin(text, form.close):
                self._cut = not text.lstrip().startswith(form.close)
                return self._opener(text, form.close, At.START, items)
            case At.START:
                return self._opener(text, form.open, At.LABEL if form.label else At.THOUGHTS, items)
            case At.AFTER if form.answer:
                return self._opener(text, form.answer[0], At.ANSWER, items)
            case At.LABEL:
                return self._label(text, items)
            case At.THOUGHTS if not self._tokens:
                return self._until(text, form.close, Thought, At.AFTER, items)
            case At.ANSWER if form.answer:
                return self._until(text, form.answer[1], Said, At.PLAIN, items)
            case At.THOUGHTS:
                items.append(Thought(text))
            case _:
                self._at = At.PLAIN
                items.append(Said(text))
        return ""

    def _opener(self, text: str, opener: str | None, then: At, items: list[Item]) -> str:
        """White space before it belongs to what it opens."""
        bare = text.lstrip()
        if opener is not None and bare.startswith(opener):
            self._at = then
            items.append(Hidden(opener))
            return text[: len(text) - len(bare)] + bare[len(opener) :]
        if not bare or (opener is not None and opener.startswith(bare)):
            self._held = text
            return ""
        self._at = At.PLAIN
        return text

    def _label(self, text: str, items: list[Item]) -> str:
        """A block with another label is none of thoughts: what it holds is said, the label too."""
        label = self._form.label
        if text.startswith(label):
            self._at = At.THOUGHTS
            items.append(Hidden(label))
            return text[len(label) :]
        if label.startswith(text):
            self._held = text
            return ""
        self._at = At.PLAIN
        return text

    def _until(self, text: str, closer: str, kind: type[Said | Thought], then: At, items: list[Item]) -> str:
        before, found, rest = text.partition(closer)
        if not found:
            keep = held_back(before, closer)
            before, self._held = before[: len(before) - keep], before[len(before) - keep :]
        if before:
            items.append(kind(before))
        if found:
            self._at = then
            items.append(Hidden(closer))
        return rest


def _may_begin(text: str, wanted: str) -> bool:
    bare = text.lstrip()
    return bare.startswith(wanted) or (len(bare) > 0 and wanted.startswith(bare))


def opens(form: ThoughtBlock, prompt: str) -> bool:
    """Whether a rendered prompt ends with the opener, so that the answer begins inside the thoughts."""
    return prompt.rstrip().endswith((form.open + form.label).rstrip())
