"""The texts of a `ToolFormat` as they stand in what a model writes: what may begin a call, and what ends it."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto

from .incoming import SPACE
from .marker_letters import MarkerLetters
from .tool_formats import PythonArgs, TextHead, ToolFormat

FIELD = re.compile(r"(\{(?:name|id|n|key|raw)\})")


class Opener(Enum):
    SECTION = auto()  # round all calls
    CALL = auto()
    HEAD = auto()  # the head itself; nothing stands before it


class CallMarkers:
    """An entry's texts as they stand in a source, white space round them taken away."""

    def __init__(self, form: ToolFormat, marks: MarkerLetters) -> None:
        def core(text: str | None) -> str:
            return marks.written(text or "").strip(SPACE)

        self.listed: set[str] = set()  # openers that a bracket follows, perhaps behind white space

        def opener(text: str) -> str:
            if len(text) < 2 or text[-1] != "[":
                return text
            self.listed.add(text[:-1].rstrip(SPACE))
            return text[:-1].rstrip(SPACE)

        opens, closes = map(core, form.section or ("", ""))
        opens = opener(opens)
        self.section = bool(opens)
        self.call, self.call_close = core(form.call[0]), core(form.call[1])
        self.section_close = [text for text in (closes[:1], closes[1:]) if text] if closes[:1] == "]" else [closes]
        self.between, self.tail = core(form.between), core(form.tail)
        self.heads: list[tuple[str, ...]] = []
        head = "{"
        if isinstance(form.head, TextHead):
            self.heads = [pieces(text, marks.written) for text in (form.head.text, *form.head.also)]
            head = self.heads[0][0].strip(SPACE)
        first = opens or self.call
        self.openers = {first or head: Opener.SECTION if opens else Opener.CALL if first else Opener.HEAD}
        if self.call:
            self.openers.setdefault(self.call, Opener.CALL)
        for text in map(opener, map(core, form.also)):
            self.openers.setdefault(text or head, Opener.HEAD if not text else Opener.SECTION if opens else Opener.CALL)
        self.fences = {core(begins): core(ends) for begins, ends in form.fences}
        for text in self.fences:
            self.openers.setdefault(text, Opener.CALL)
        # what any text may hold, a quoted one too: a call only where an answer begins or another call ended
        self.everyday = {*self.fences, *(["{"] if self.call and head == "{" else [])}
        known = (self.tail, self.call_close, self.section_close[0])
        self.ends = tuple(text for text in known if text) if not isinstance(form.args, PythonArgs) else (self.tail,)


def pieces(text: str, written: Callable[[str], str]) -> tuple[str, ...]:
    """Texts and {fields} in turn; the first and the last are texts."""
    return tuple(part if at % 2 else written(part) for at, part in enumerate(FIELD.split(text)))
