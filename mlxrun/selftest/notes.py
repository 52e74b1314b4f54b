"""What a part writes down while it runs: a line of JSON for each thing, at once, so that nothing is lost with a process
that dies.

Its reader is `watch`, in the process that waits. Knows no part.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any


class Notes:
    def __init__(self, write: Callable[[str], None], *, quick: bool, seconds: float) -> None:
        """`seconds`: after so many whoever waits ends this process."""
        self.quick = quick
        self._write, self._end, self.bad = write, time.monotonic() + seconds, list[str]()

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def begin(self, what: str) -> None:
        """If this process dies or hangs now, it was with that."""
        self._line({"begin": what})

    def check(self, name: str, good: bool, said: str, **numbers: Any) -> bool:
        """Something that is right or wrong; one that is wrong fails the part."""
        if not good:
            self.bad.append(f"{name}: {said}")
        self._line({"check": {"name": name, "good": bool(good), "said": said, **numbers}})
        return good

    def number(self, name: str, value: Any) -> None:
        """Something that is neither."""
        self._line({"number": [name, value]})

    def end(self, said: str) -> None:
        if self.bad:
            others = f" (and {len(self.bad) - 1} more)" if len(self.bad) > 1 else ""
            self._line({"end": ["failed", self.bad[0] + others]})
        else:
            self._line({"end": ["passed", said]})

    def not_run(self, why: str) -> None:
        self._line({"end": ["not run", why]})

    def _line(self, what: dict[str, Any]) -> None:
        self._write(json.dumps(finite(what), separators=(",", ":")) + "\n")


def finite(value: Any) -> Any:
    """JSON has no infinities."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
