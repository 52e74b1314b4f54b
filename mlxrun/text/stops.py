"""Stop strings in streamed text, wherever its pieces end.

The stop that is complete first wins (of several that end together, the longest), so the answer does not
depend on how the text was cut. Text is held back only while it may still turn out to begin a stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from ..core import RequestError
from ..parts import AnswerPart, Said, Thought
from .items import Hidden, Item, held_back


class StopStrings:
    def __init__(self, stops: Sequence[str]) -> None:
        if isinstance(stops, str) or not all(isinstance(stop, str) and stop for stop in stops):
            raise RequestError("stop must be a list of strings that are not empty.")
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None  # the stop that ended the text

    def push(self, text: str) -> tuple[str, bool]:
        """(text that is safe to show, whether a stop was found). After a stop nothing is shown any more."""
        if self.found is not None:
            return "", True
        text = self._held + text
        matches = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if matches:
            _, start, self.found = min(matches)
            self._held = ""
            return text[:start], True
        keep = max((held_back(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def finish(self) -> str:
        """What was held back, now that it can no longer become a stop."""
        held, self._held = self._held, ""
        return held


class StopParts:
    """The same in an answer's parts. A stop is looked for in all that the model wrote, hidden markers included."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._watch = StopStrings(stops)
        self._none = not stops
        self._line: deque[tuple[Item, int]] = deque()  # not shown yet; of texts, how many characters are left

    @property
    def found(self) -> str | None:
        return self._watch.found

    def push(self, items: Sequence[Item]) -> list[AnswerPart]:
        if self._none:
            return [item for item in items if not isinstance(item, Hidden)]
        if self.found is not None:
            return []
        texts = [item.text if isinstance(item, Said | Thought | Hidden) else "" for item in items]
        text = "".join(texts)
        shown = len(self._watch.push(text)[0])
        if shown == len(text) and not self._line:
            return [item for item in items if not isinstance(item, Hidden)]  # as nearly always
        self._line.extend(zip(items, map(len, texts), strict=True))
        return self._shown(shown)

    def finish(self) -> list[AnswerPart]:
        return self._shown(len(self._watch.finish()))

    def _shown(self, count: int) -> list[AnswerPart]:
        """The next `count` characters, and whatever stands between them."""
        parts: list[AnswerPart] = []
        while self._line:
            item, left = self._line.popleft()
            if left > count:
                self._line.appendleft((item, left - count))
            if isinstance(item, Said | Thought):
                begin = len(item.text) - left
                if text := item.text[begin : begin + count]:
                    parts.append(replace(item, text=text))
            elif not isinstance(item, Hidden):
                parts.append(item)
            if left > count:
                break
            count -= left
        return parts
