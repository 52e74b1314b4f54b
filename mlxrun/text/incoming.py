"""Text that comes in pieces, read as if it were whole: a reader waits wherever the next letters could still decide.

Readers are generators; each `yield` waits for more text. What they read never depends on where the pieces ended.
Markers that are tokens stand in it as `marker_letters` has them. Knows no format and no tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Generator, Iterable
from functools import lru_cache

from .items import held_back
from .marker_letters import MarkerLetters

Waiting = Generator[None, None, None]
SPACE = " \t\r\n"


class Broken(Exception):
    """What comes is not what was to be read."""


class Incoming:
    def __init__(self, marks: MarkerLetters) -> None:
        self.marks = marks
        self.text, self.at, self.ended = "", 0, False
        self._kept: list[int] = []  # where to go back to, the oldest first

    def feed(self, text: str) -> None:
        start = self._kept[0] if self._kept else self.at
        self.text, self.at = self.text[start:] + text, self.at - start
        self._kept = [place - start for place in self._kept]

    def keep(self) -> None:
        """Remember this place until `back` or `let_go`."""
        self._kept.append(self.at)

    def back(self) -> None:
        self.at = self._kept.pop()

    def let_go(self) -> None:
        self._kept.pop()

    def next(self) -> Generator[None, None, str]:
        """The next letter, not taken; empty at the end."""
        while self.at == len(self.text) and not self.ended:
            yield
        return self.text[self.at : self.at + 1]

    def space(self) -> Generator[None, None, str]:
        """White space, taken."""
        taken = ""
        while True:
            start = self.at
            while self.at < len(self.text) and self.text[self.at] in SPACE:
                self.at += 1
            taken += self.text[start : self.at]
            if self.at < len(self.text) or self.ended:
                return taken
            yield

    def ahead(self, options: Collection[str], skip: int = 0) -> Generator[None, None, str | None]:
        """Which of these comes next, the longest, `skip` letters from here; not taken."""
        longest = max(map(len, options), default=0)
        while True:
            here = self.text[self.at + skip : self.at + skip + longest]
            if self.ended or not any(len(here) < len(option) and option.startswith(here) for option in options):
                return max((option for option in options if here.startswith(option)), key=len, default=None)
            yield

    def take(self, options: Collection[str]) -> Generator[None, None, str | None]:
        found = yield from self.ahead(options)
        self.at += len(found or "")
        return found

    def must(self, text: str) -> Waiting:
        """That text, taken; white space may stand before it."""
        yield from self.space()
        if (yield from self.take((text,))) is None:
            raise Broken

    def run(self, letters: re.Pattern[str], most: int) -> Generator[None, None, str]:
        """As many of these letters as come, taken; more than `most` are no good."""
        length = 0
        while True:
            found = letters.match(self.text, self.at + length)
            length += len(found[0]) if found else 0
            if length > most:
                raise Broken
            if self.at + length < len(self.text) or self.ended:
                break
            yield
        self.at += length
        return self.text[self.at - length : self.at]


@lru_cache(maxsize=256)
def finder(texts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))


def certain(text: str, wanted: Iterable[str]) -> int:
    """How much of the start of `text` cannot be part of something wanted that only begins there."""
    return len(text) - max((held_back(text, one) for one in wanted), default=0)


def as_json(text: str) -> str:
    """The inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
