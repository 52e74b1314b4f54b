"""A limit that MLX has once for a process, where several models live in it: the sum of what they want."""

from __future__ import annotations

import threading
from collections.abc import Callable
from weakref import WeakKeyDictionary


class SharedLimit:
    def __init__(self, set_limit: Callable[[int], int]) -> None:
        """`set_limit` returns what it was before."""
        self._set, self._lock = set_limit, threading.Lock()
        self._wanted: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._before = 0

    def want(self, owner: object, amount: int, most: int | None = None) -> int:
        """What is set now: for all owners together, `most` at most."""
        with self._lock:
            total = sum(self._wanted.values()) + amount
            total = total if most is None else min(total, max(most, amount))
            before = self._set(total)
            if not self._wanted:
                self._before = before
            self._wanted[owner] = amount
            return total

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self._wanted.values())

    def drop(self, owner: object, first: Callable[[], object] = lambda: None) -> None:
        """As it would be without, once `first` is done; as it was at the beginning, when nobody is left."""
        with self._lock:
            if self._wanted.pop(owner, None) is not None:
                first()
                self._set(sum(self._wanted.values()) if self._wanted else self._before)
