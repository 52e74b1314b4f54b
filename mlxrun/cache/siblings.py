"""Values by token ids, in order, so that who shares the most tokens with others is found without asking all of them.

Those with fewer tokens than the longest may have are parts; how long they are is counted, to find which of them begin
a key. Bytes of token ids are compared as they lie: neighbours in that order share the most bytes, so the most tokens.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

WORD = array("i").itemsize  # bytes of a token id
Key = bytes  # of token ids
Value = TypeVar("Value")


class Siblings(Generic[Value]):
    __slots__ = ("_keys", "_lengths", "_values")

    def __init__(self) -> None:
        self._values: dict[Key, Value] = {}
        self._keys: list[Key] = []  # in order
        self._lengths: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Value]:
        return iter(self._values.values())

    def get(self, key: Key) -> Value | None:
        return self._values.get(key)

    def add(self, key: Key, value: Value) -> None:
        if key not in self._values:
            insort(self._keys, key)
            self._lengths[len(key)] += 1
        self._values[key] = value

    def remove(self, key: Key) -> None:
        del self._values[key]
        del self._keys[bisect_left(self._keys, key)]
        self._lengths[len(key)] -= 1
        if not self._lengths[len(key)]:
            del self._lengths[len(key)]

    def beginnings(self, key: Key) -> Iterator[Value]:
        """Those that `key` begins with, or is, the longest first."""
        for length in sorted(self._lengths, reverse=True):
            if length <= len(key) and (value := self._values.get(key[:length])) is not None:
                yield value

    def longer(self, key: Key) -> Value | None:
        """One that begins with `key` and goes on."""
        for at in range(bisect_left(self._keys, key), len(self._keys)):
            if not self._keys[at].startswith(key):
                return None
            if len(self._keys[at]) > len(key):
                return self._values[self._keys[at]]
        return None

    def nearest(self, key: Key) -> list[tuple[int, Value]]:
        """Who shares the most tokens with `key`, and how many; at most two, and none that shares nothing."""
        at = bisect_left(self._keys, key)
        found = [(common(near, key), self._values[near]) for near in self._keys[max(0, at - 1) : at + 1]]
        return sorted((pair for pair in found if pair[0]), key=lambda pair: -pair[0])

    def check(self) -> None:
        assert self._keys == sorted(self._values)
        assert self._lengths == Counter(map(len, self._values))


def common(one: Key, other: Key) -> int:
    """How many token ids both begin with."""
    least = min(len(one), len(other))
    apart = int.from_bytes(one[:least], "little") ^ int.from_bytes(other[:least], "little")
    return least // WORD if not apart else ((apart & -apart).bit_length() - 1) // (8 * WORD)
