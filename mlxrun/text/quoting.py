"""Control tokens that somebody writes out in a message stay text; those that a chat template writes are meant.

Before rendering, a mark breaks them where they stand in a message. After it, a tokenizer looks for control
tokens first, finds the template's own alone, and drops the marks before it spells the rest. The mark is a
noncharacter, which no text has a use for: one that a message brings along goes the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MARK = "\ufdd0"
LEFT_ALONE = ("<think>", "</think>")  # templates look for them in earlier answers


class Quoting:
    def __init__(self, controls: Iterable[str]) -> None:
        """`controls`: what a tokenizer takes for a control token. One letter alone cannot be broken."""
        texts = sorted({text for text in controls if len(text) > 1} - {*LEFT_ALONE}, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, texts))) if texts else None

    def text(self, text: str) -> str:
        while self._controls and self._controls.search(text):  # again: two may have overlapped
            text = self._controls.sub(_broken, text)
        return text

    def within(self, value: Any) -> Any:
        """The same for every text in plain data; keys are names and stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.within(inner) for key, inner in value.items()}
        return [self.within(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _broken(found: re.Match[str]) -> str:
    return found[0][0] + MARK + found[0][1:]
