"""By which a result names its call."""

from __future__ import annotations

import re
import uuid

from .tool_formats import Ids

NINE = re.compile("[A-Za-z0-9]{9}")
GOOD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class CallIds:
    """What the model wrote, if it is good for that; else one that is made here."""

    def __init__(self, ids: Ids, history: int) -> None:
        self._ids, self._history = ids, history
        self._given: list[str] = []

    def next(self, name: str, written: str | None) -> str:
        good = {Ids.NINE: NINE, Ids.FREE: GOOD}.get(self._ids)
        if good is None or not written or not good.fullmatch(written) or written in self._given:
            written = self._made(name)
        self._given.append(written)
        return written

    def _made(self, name: str) -> str:
        if self._ids is Ids.COUNTED:  # models count wrongly
            return f"functions.{name}:{self._history + len(self._given)}"
        letters = uuid.uuid4().hex
        return letters[:9] if self._ids is Ids.NINE else f"call_{letters[:24]}"
