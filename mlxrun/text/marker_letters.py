"""Markers that are one token of the vocabulary, as one letter each that no decoded text can hold: a lone surrogate.

So a marker is never taken for its letters, nor they for it, and whoever reads text reads markers too.
"""

from __future__ import annotations

import re

from .tokenizer import Tokenizer

FIRST = 0xD800
BREAK = "\udfff"  # a control token that nobody asked for: no text reaches across it
ANY_MARK = re.compile("[\ud800-\udfff]")
STARTS, ENDS = "<[]｜", ">]}｜"  # of tokens that are markers


class MarkerLetters:
    """Which tokens are markers, and the letter that stands for each."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.letters: dict[int, str] = {}  # token id -> letter
        self.spelled: dict[str, tuple[str, bool]] = {}  # letter -> (text, whether it is a control token)

    def add(self, text: str) -> str | None:
        """The letter of the token that is this very text."""
        token = self._tokenizer.added_id(text)
        if token is None:
            return None
        letter = self.letters.setdefault(token, chr(FIRST + len(self.letters)))
        self.spelled[letter] = text, self._tokenizer.is_special(token)
        return letter

    def written(self, text: str) -> str:
        """`text`, the tokens in it as their letters: the longest first, from the left."""
        out, at = "", 0
        while at < len(text):
            end, letter = self._token_at(text, at)
            out += letter or text[at]
            at = end
        return out

    def _token_at(self, text: str, at: int) -> tuple[int, str | None]:
        if text[at] in STARTS:
            for end in range(len(text), at + 2, -1):
                if text[end - 1] in ENDS and (letter := self.add(text[at:end])):
                    return end, letter
        return at + 1, None

    def plain(self, text: str) -> str:
        """As it was written, markers too; control tokens that nobody asked for are no text."""
        return ANY_MARK.sub(lambda found: self.spelled.get(found[0], ("", True))[0], text)

    def control(self, letter: str) -> bool:
        return letter not in self.spelled or self.spelled[letter][1]
