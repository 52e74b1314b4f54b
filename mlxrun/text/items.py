"""What a reader of answers makes of text before stop strings are looked for, and how much of it must wait."""

from __future__ import annotations

from dataclasses import dataclass

from ..parts import AnswerPart


@dataclass(frozen=True, slots=True)
class Hidden:
    """A marker that was read. Nobody is shown it, but a stop string may lie in it."""

    text: str


Item = AnswerPart | Hidden


def held_back(text: str, wanted: str) -> int:
    """How many characters at the end of `text` may be the beginning of `wanted`."""
    longest = min(len(text), len(wanted) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(wanted[:n])), 0)
