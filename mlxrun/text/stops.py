"""Stop strings in streamed text, wherever its pieces end.

The stop that is complete first wins (of several that end together, the longest), so the answer does not
depend on how the text was cut. Text is held back only while it may still turn out to begin a stop.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core import RequestError


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


def held_back(text: str, wanted: str) -> int:
    """How many characters at the end of `text` may be the beginning of `wanted`."""
    longest = min(len(text), len(wanted) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(wanted[:n])), 0)
