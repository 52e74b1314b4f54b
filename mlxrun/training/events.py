"""What a run tells while it runs: data, for a terminal, a file of JSON lines, or whoever listens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Began:
    step: int  # that are done already
    steps: int
    trained: int  # numbers


@dataclass(frozen=True, slots=True)
class Stepped:
    step: int  # from 1 on
    steps: int
    loss: float
    rate: float
    gradient: float  # how long it was before it was cut
    tokens: int  # that were read
    learnt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    step: int
    loss: float
    learnt: int


@dataclass(frozen=True, slots=True)
class Sampled:
    step: int
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class Saved:
    step: int
    place: str


TrainEvent = Began | Stepped | Evaluated | Sampled | Saved
Listen = Callable[[TrainEvent], None]


class Log:
    """A file of JSON lines. A run that goes on writes behind what is there."""

    def __init__(self, path: Path, *, anew: bool) -> None:
        self._file = path.open("w" if anew else "a", encoding="utf-8")

    def __call__(self, event: TrainEvent) -> None:
        told = {"event": type(event).__name__.lower(), **asdict(event)}
        self._file.write(json.dumps(told, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
