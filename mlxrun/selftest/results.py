"""What a part of the self-test is, and what came of it. Knows no part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["passed", "failed", "not run", "hung", "died"]
WELL: tuple[State, ...] = ("passed", "not run")


class NotRun(Exception):
    """Why a part, or a check of it, has nothing to do here, in one sentence. No fault."""


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    title: str
    function: str  # "module:name", called with a `Notes` in a process of its own
    seconds: float  # that it may take
    quick: float  # and with --quick
    environ: Mapping[str, str] = field(default_factory=dict)  # of its process, beside what everybody has

    def allowed(self, quick: bool) -> float:
        return self.quick if quick else self.seconds


@dataclass(frozen=True, slots=True)
class Result:
    part: Part
    state: State
    said: str  # one sentence
    seconds: float = 0.0
    checks: tuple[Mapping[str, Any], ...] = ()  # {"name", "good", "said", ...}
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        return self.state in WELL

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.part.name,
            "title": self.part.title,
            "state": self.state,
            "said": self.said,
            "seconds": round(self.seconds, 2),
            "checks": list(self.checks),
            "numbers": dict(self.numbers),
        }
