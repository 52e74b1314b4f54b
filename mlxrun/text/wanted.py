"""Whether anybody still waits for the work of this thread. Who hands work to a thread says when he has left; the work
asks now and then, however deep it stands."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from threading import Event
from typing import TypeVar

T = TypeVar("T")
_left: ContextVar[Event | None] = ContextVar("left", default=None)


class Unwanted(Exception):
    """Nobody waits for this any more."""


def until(left: Event, work: Callable[[], T]) -> T:
    """`work`, which `go_on` ends once `left` is set."""

    def within() -> T:
        _left.set(left)
        return work()

    return copy_context().run(within)


def go_on() -> None:
    left = _left.get()
    if left is not None and left.is_set():
        raise Unwanted
