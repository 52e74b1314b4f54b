"""Whether a row may begin now: what it asks can be served, and there is memory for it beside those that run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto

from ..core import Event, Finish, Refusal, RequestError
from ..loading.model import Runnable
from .budget import CHUNK
from .prefix_cache import PrefixCache
from .request import Row, check, refuse

Claims = Sequence[tuple[int, int]]  # of those that run: tokens that they will remember, bytes that they hold already
RoomFor = Callable[[int, int, Claims], str | None]


class Admitted(Enum):
    YES = auto()
    LATER = auto()  # when another row has ended
    NEVER = auto()  # it was told why


class Admission:
    def __init__(self, model: Runnable, context: int, prefixes: PrefixCache, room_for: RoomFor) -> None:
        self._model, self._context, self._prefixes, self._room_for = model, context, prefixes, room_for
        self.full: str | None = None  # why nothing new may begin

    def admit(self, row: Row, running: Sequence[Row]) -> Admitted:
        try:
            check(row.handle.request, self._model.vocab, self._context)
        except RequestError as error:
            refuse(row.handle, str(error), error.refusal)
            return Admitted.NEVER
        room = self._room(row, running)
        if room is not Admitted.YES:
            return room
        try:
            row.begin(*self._prefixes.memory_for(row.handle.request.tokens))
        except Exception as error:  # noqa: BLE001 one request ends, the thread lives on
            row.handle.post(Event(finish=Finish.FAILED, reason=f"{type(error).__name__}: {error}"))
            return Admitted.NEVER
        return Admitted.YES

    def _room(self, row: Row, running: Sequence[Row]) -> Admitted:
        if self.full is not None:
            refuse(row.handle, self.full, Refusal.BUSY)
            return Admitted.NEVER
        claims = [(len(other.tokens), other.memory.bytes) for other in running]
        if self._room_for(len(row.tokens), CHUNK, claims) is None:
            return Admitted.YES
        self._prefixes.clear()  # what may come is worth less than what is here
        reason = self._room_for(len(row.tokens), CHUNK, claims)
        if reason is not None and not running:
            refuse(row.handle, reason, Refusal.CONTEXT)
            return Admitted.NEVER
        return Admitted.YES if reason is None else Admitted.LATER
