"""Telling reasoning from content in a streamed reply, by the tags that a model writes around its thoughts.

Reasoning is one block at the start of a reply. A tag later on is content: the model may be writing about
tags. Nothing but the two tags is ever left out. Knows no model: who calls gives the tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .stops import held_back

Kind = Literal["reasoning", "content"]


@dataclass(frozen=True, slots=True)
class Part:
    kind: Kind
    text: str


class ReasoningSplit:
    def __init__(self, open: str = "<think>", close: str = "</think>", *, opened: bool = False) -> None:
        """`opened`: the prompt already ends inside the block (see `opens`)."""
        self._open, self._close = open, close
        self._state: Literal["start", "inside", "after"] = "inside" if opened else "start"
        self._held = ""

    def opens(self, prompt: str) -> bool:
        """Whether a rendered chat template ends with the opening tag, so that the reply begins inside."""
        return prompt.rstrip().endswith(self._open)

    def push(self, text: str) -> list[Part]:
        text, self._held = self._held + text, ""
        parts: list[Part] = []
        if self._state == "start":
            text = self._at_start(text)
        if self._state == "inside":
            before, tag, text = text.partition(self._close)
            if tag:
                self._state = "after"
            else:
                keep = held_back(before, self._close)
                before, self._held = before[: len(before) - keep], before[len(before) - keep :]
            parts.append(Part("reasoning", before))
        if self._state == "after":
            parts.append(Part("content", text))
        return [part for part in parts if part.text]

    def _at_start(self, text: str) -> str:
        """Decide whether the reply opens a block; the text is held back for as long as it may."""
        bare = text.lstrip()
        if bare.startswith(self._open):
            self._state = "inside"
            return text[: len(text) - len(bare)] + bare[len(self._open) :]
        if self._open.startswith(bare):
            self._held = text
            return ""
        self._state = "after"
        return text

    def finish(self) -> list[Part]:
        held, self._held = self._held, ""
        kind: Kind = "reasoning" if self._state == "inside" else "content"
        return [Part(kind, held)] if held else []
