"""Markers that somebody writes out in a message stay text; those that a chat template writes are meant.

A marker is what a tokenizer takes for one token: control tokens, and others that it was given for calls, results and
thoughts. Before rendering, a mark breaks them where they stand in a message. After it, a tokenizer looks for such
tokens first, finds the template's own alone, and drops the marks before it spells the rest. The mark is a
noncharacter, which no text has a use for: one that a message brings along goes the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MARK = "\ufdd0"
OWN = ("<think>", "</think>")  # templates look for them in earlier answers


class Quoting:
    def __init__(self, markers: Iterable[str]) -> None:
        """`markers`: what a tokenizer takes for one token. One letter alone cannot be broken."""
        texts = {text for text in markers if len(text) > 1}
        self._all, self._but_own = any_of(texts), any_of(texts - {*OWN})

    def text(self, text: str, *, own: bool = False) -> str:
        """`own`: the model wrote it, and may have marked thoughts in it."""
        markers = self._but_own if own else self._all
        while markers and markers.search(text):  # again: two may have overlapped
            text = markers.sub(_broken, text)
        return text

    def within(self, value: Any) -> Any:
        """The same for every text in plain data, and for every key that is not just a word."""
        if isinstance(value, str):
            return self.text(well_formed(value))
        if isinstance(value, Mapping):
            return {
                key if not isinstance(key, str) or key.isidentifier() else self.within(key): self.within(inner)
                for key, inner in value.items()
            }
        return [self.within(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def unmarked(text: str) -> str:
    return text.replace(MARK, "")


def any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    found = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, found))) if found else None


def well_formed(text: str) -> str:
    """The text with lone surrogates, which JSON can smuggle in, made U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _broken(found: re.Match[str]) -> str:
    return found[0][0] + MARK + found[0][1:]
