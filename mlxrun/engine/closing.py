"""Thoughts that may not grow longer than asked: their end is forced, at a whole character, anew for each block.

Told each token that is read, it says which token must come next, if one must. Knows no grammar and no text beyond the
bytes of a token.
"""

from __future__ import annotations

import codecs
from copy import copy

import numpy as np

from ..core import Closing

MID_CHARACTER = 8  # tokens that a character is waited for at most


class ThoughtBudget:
    """Of one answer."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing
        self._opener, self._closer = map(self._bytes, (closing.opener, closing.closer))
        self._inside = closing.opened
        self._count = 0  # tokens of this block
        self._forcing: list[int] = []  # what must still come
        self._tail: tuple[int, ...] = ()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, token: int) -> None:
        """The next token of the answer is this one."""
        if self._forcing:
            del self._forcing[0]
            if not self._forcing:
                self._leave()
        elif self._inside:
            self._count += 1
            self._utf8.decode(self._closing.spell(token))
            if self._came(token, self._closing.closer, self._closer):
                self._leave()
            elif self._spent:
                self._forcing = [*self._closing.forced]
        elif self._came(token, self._closing.opener, self._opener):
            self._enter()

    def bits(self, free: np.ndarray | None) -> np.ndarray | None:
        """What may come next, where `free` may otherwise. Where that has no place for the end, the block is over."""
        if not self._must:
            return free
        self._forcing = self._forcing or [*self._closing.forced]
        token = self._forcing[0]
        if free is not None and not free[token // 32] >> (token % 32) & 1:
            self._forcing = []
            self._leave()
            return free
        only = np.zeros(token // 32 + 1 if free is None else free.size, np.uint32)
        only[token // 32] = 1 << token % 32
        return only

    def fits(self, drafts: tuple[int, ...]) -> int:
        """How many of these may ride in a pass: behind none of them must the end be forced."""
        if self._must:
            return 0
        trial = copy(self)
        trial._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        trial._utf8.setstate(self._utf8.getstate())
        for at, token in enumerate(drafts):
            trial.read(token)
            if trial._must:
                return at
        return len(drafts)

    @property
    def _must(self) -> bool:
        return bool(self._forcing) or (self._inside and self._count == 0 == self._closing.budget)

    @property
    def _spent(self) -> bool:
        over = self._count - self._closing.budget
        return over >= 0 and (not self._utf8.getstate()[0] or over >= MID_CHARACTER)

    def _enter(self) -> None:
        self._inside, self._count, self._tail = True, 0, ()
        self._utf8.reset()

    def _leave(self) -> None:
        self._inside, self._tail = False, ()

    def _came(self, token: int, ids: tuple[int, ...], text: bytes) -> bool:
        """A marker that is one token is known by its id; a longer one by its bytes, which may be split otherwise."""
        if len(ids) == 1:
            return token == ids[0]
        self._tail = (*self._tail, token)[-max(1, len(text)) :]
        return bool(text) and text in self._bytes(self._tail)

    def _bytes(self, ids: tuple[int, ...]) -> bytes:
        return b"".join([self._closing.spell(i) for i in ids])
