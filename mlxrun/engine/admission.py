"""Whether a row may begin now: what it asks can be served, and there is memory for it beside those that run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from ..contracts import Prefixes
from ..core import ContextError, Event, Finish, Refusal
from .budget import CHUNK
from .prefix_cache import shared_prefix
from .request import Row

Claims = Sequence[tuple[int, int]]  # of those that run: tokens that they will remember, bytes that they hold already
AHEAD = 64  # tokens by which each of those that run will have grown soon
AGAIN = 256  # tokens for which a row that had to stop must have room, or it would have to stop again
SHARED = 64  # tokens of a prompt that are worth waiting for


class RoomLeft(Protocol):
    """What of the machine's memory is left. Without a plan there is always some."""

    def room_for(self, tokens: int, rows: int, claims: Claims = ()) -> str | None:
        """None, or why a prompt of so many tokens cannot begin now."""

    def never_room_for(self, tokens: int, rows: int) -> str | None:
        """None, or why it cannot even alone."""


class Endless:
    def room_for(self, tokens: int, rows: int, claims: Claims = ()) -> str | None:
        return None

    def never_room_for(self, tokens: int, rows: int) -> str | None:
        return None


class Admitted(Enum):
    YES = auto()
    LATER = auto()  # when another row has ended, or has read what they share
    NEVER = auto()  # it was told why


class Admission:
    def __init__(self, prefixes: Prefixes, room: RoomLeft) -> None:
        self._prefixes, self._room = prefixes, room
        self.full: str | None = None  # why nothing new may begin

    def check(self, tokens: int) -> None:
        """Raises what a prompt that fits at no time is refused with."""
        if (reason := self._room.never_room_for(tokens, CHUNK)) is not None:
            raise ContextError(reason)

    def admit(self, row: Row, claims: Claims, retry_after: Callable[[int], float | None], now: float) -> Admitted:
        """`claims`: of all that run."""
        reason = self.full or self.shortage(row, claims)
        if reason is None:
            return self._begin(row, now)
        if claims:
            return Admitted.LATER
        if row.stopped:
            row.tell(Event(finish=Finish.FAILED, reason=reason, usage=row.usage(now)))
        else:
            refusal = Refusal.BUSY if self.full is not None else Refusal.CONTEXT
            wait = retry_after(1) if refusal is Refusal.BUSY else None
            row.tell(Event(finish=Finish.REFUSED, reason=reason, refusal=refusal, retry_after=wait))
        return Admitted.NEVER

    def shortage(self, row: Row, claims: Claims) -> str | None:
        """Why there is no memory for it now; what ended requests left is worth less than what is here."""
        tokens = min(len(row.tokens) + AGAIN, row.limit) if row.stopped else len(row.tokens)
        while (reason := self._room.room_for(tokens, CHUNK, claims)) is not None and self._prefixes.bytes:
            self._prefixes.shrink(max(1, self._prefixes.bytes // 4))
        return reason

    def _begin(self, row: Row, now: float) -> Admitted:
        try:
            row.begin(*self._prefixes.memory_for(row.keys, row.scope), now)
        except Exception as error:  # noqa: BLE001 one request ends, the thread lives on
            row.tell(Event(finish=Finish.FAILED, reason=f"{type(error).__name__}: {error}"))
            return Admitted.NEVER
        return Admitted.YES


def claim(row: Row) -> tuple[int, int]:
    """In steps of AHEAD tokens: what so many take is asked for again and again."""
    tokens = min(len(row.tokens) + AHEAD, row.limit)
    return -(-tokens // AHEAD) * AHEAD, row.memory.bytes


def is_read_for(row: Row, running: Sequence[Row]) -> bool:
    """Whether somebody is reading the same tokens right now: they are computed once, and there for both."""
    if row.behind is not None:
        other, shared = row.behind
        if other in running and not other.speaks and other.memory.length < shared:
            return True
        row.behind = None
    for other in running:
        if not other.speaks and not other.goal and other.scope == row.scope:
            shared = min(shared_prefix(row.keys, other.keys), len(row.tokens) - 1)
            if shared >= SHARED and other.memory.length < shared:
                row.behind = (other, shared)
                return True
    return False
