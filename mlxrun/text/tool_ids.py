"""By which a result names its call."""

from __future__ import annotations

import re
import uuid

from .tool_formats import Ids

NINE = re.compile("[A-Za-z0-9]{9}")


class CallIds:
    """What the model wrote, if it is good for that; else one that is made here."""

    def __init__(self, ids: Ids, history: int) -> None:
        self._ids, self._history = ids, history
        self._given: list[str] = []

    def next(self, name: str, written: str | None) -> str:
        good = written and written not in self._given and self._ids is not Ids.COUNTED
        if not good or (self._ids is Ids.NINE and not NINE.fullmatch(written or "")):
            written = self._made(name)
        self._given.append(written or "")
        return self._given[-1]

    def _made(self, name: str) -> str:
        if self._ids is Ids.COUNTED:  # models count wrongly
            return f"functions.{name}:{self._history + len(self._given)}"
        letters = uuid.uuid4().hex
        return letters[:9] if self._ids is Ids.NINE else f"call_{letters[:24]}"
