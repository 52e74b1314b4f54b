"""Drafts out of the text itself: where its end stood before, what followed there.

The index holds, for each run of LONG and of SHORT tokens, where it stood last, and for each place the one before it.
A token costs the same however long the text is. Edited files, quotations and repeated code are what this finds; in
free talk it finds little, which the rates by match length tell.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from ...memory.claim import NO_CLAIM
from .base import NO_DRAFTS, DraftedRow, Drafts

LONG, SHORT = 5, 2
WALK = 16  # places that are looked at, the latest first
LONGEST = 32  # tokens of a match that count
MOST = 64  # drafts
AT_ONCE = 8192  # tokens that are taken in at one call: others wait for it, some milliseconds
KINDS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)  # matches from so many tokens on have one chance
KEY_BITS = 60


class Match(NamedTuple):
    length: int  # tokens before `place` that are also the last ones of the text
    place: int


NO_MATCH = Match(0, 0)


class RunIndex:
    """Where runs of `size` tokens ended. Two runs may share a key: who asks compares the tokens."""

    __slots__ = ("_before", "_key", "_last", "_shift", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._shift = KEY_BITS // size
        self._key = 0  # of the last tokens, which are not in the index yet
        self._last: dict[int, int] = {}
        self._before = array("i", [-1])  # by place: the one before it with the same key

    def read(self, tokens: Sequence[int], start: int) -> None:
        """`tokens` stand from `start` on in the text. The run before each has an end that is followed by something."""
        key, shift, mask, last = self._key, self._shift, (1 << KEY_BITS) - 1, self._last
        before = self._before
        for place, token in enumerate(tokens, start):
            if place:
                before.append(last.get(key, -1))
                last[key] = place
            key = (key << shift ^ token) & mask
        self._key = key

    def places(self) -> list[int]:
        """After runs that end as the text does; the latest first."""
        found: list[int] = []
        place = self._last.get(self._key, -1)
        while place >= 0 and len(found) < WALK:
            found.append(place)
            place = self._before[place]
        return found


class SuffixIndex:
    __slots__ = ("_runs", "read_up_to")

    def __init__(self) -> None:
        self.read_up_to = 0
        self._runs = RunIndex(LONG), RunIndex(SHORT)

    def read(self, text: Sequence[int], most: int = AT_ONCE) -> bool:
        """Take in what came, at most so much of it. Whether that was all."""
        end = min(len(text), self.read_up_to + most)
        if end > self.read_up_to:
            new = text[self.read_up_to : end]
            for runs in self._runs:
                runs.read(new, self.read_up_to)
            self.read_up_to = end
        return end == len(text)

    def match(self, text: Sequence[int]) -> Match:
        """The longest of those that were looked at, the latest of equals. All of the text must have been read."""
        best = NO_MATCH
        for runs in self._runs:
            for place in runs.places():
                length = agreed(text, place, best.length)
                if length > best.length:
                    best = Match(length, place)
                if length == LONGEST:
                    return best
            if best.length >= runs.size:
                return best
        return NO_MATCH


def agreed(text: Sequence[int], place: int, beat: int = 0) -> int:
    """How many tokens before `place` are the last ones of the text; 0 where not more than `beat`."""
    end, most = len(text), min(LONGEST, place)
    if most <= beat or text[place - 1 - beat] != text[end - 1 - beat]:
        return 0
    length = 0
    while length < most and text[place - 1 - length] == text[end - 1 - length]:
        length += 1
    return length


def following(text: Sequence[int], place: int, count: int) -> list[int]:
    """What stands there, and where the text ends before that, what would follow if it went on so."""
    found = list(text[place : place + count])
    period = len(text) - place
    while len(found) < count:
        found.append(found[-period])
    return found


def kind_of(length: int) -> int:
    return bisect_right(KINDS, length) - 1


class SuffixProposer:
    name, most, given_up, claim = "suffix", MOST, None, NO_CLAIM

    def prior(self, kind: int) -> float:
        length = KINDS[kind]
        return length / (length + 4)

    def kinds(self, count: int) -> tuple[int, ...]:
        raise TypeError("what the end of a text is worth is known when it was looked for")

    def seconds(self, rows: int) -> float:
        return 0.0

    def propose(self, rows: Sequence[DraftedRow], most: Sequence[int]) -> list[Drafts]:
        return [self._drafts(row, min(count, MOST)) for row, count in zip(rows, most, strict=True)]

    def _drafts(self, row: DraftedRow, most: int) -> Drafts:
        index = row.drafting.proposers.get(self.name)
        if index is None:
            index = row.drafting.proposers[self.name] = SuffixIndex()
        if not index.read(row.tokens) or most < 1:
            return NO_DRAFTS
        length, place = index.match(row.tokens)
        if not length:
            return NO_DRAFTS
        tokens = following(row.tokens, place, most)
        return Drafts(tuple(tokens), tuple(kind_of(length + ahead) for ahead in range(most)))

    def forget(self) -> None:
        pass

    def bytes(self, row: DraftedRow) -> int:
        return 0

    def ended(self, row: DraftedRow) -> None:
        pass
