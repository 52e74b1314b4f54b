"""A tiny model, and files of rows for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlxrun.loading.open import open_model
from mlxrun.training.config import config_of
from mlxrun.training.events import TrainEvent
from mlxrun.training.train import Training, prepare, train
from tests.server.tiny import write_tiny

WORDS = ("red", "green", "blue", "grey", "black", "white")


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def said(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def colours() -> list[dict[str, Any]]:
    return [said(f"The colour after {one}?", other) for one, other in pairwise(WORDS)]


def pairs() -> list[dict[str, Any]]:
    return [{"prompt": f"After {one}?", "chosen": other, "rejected": one} for one, other in pairwise(WORDS)]


def tiny(folder: Path) -> Path:
    return write_tiny(folder / "base", context=256)


def run(
    folder: Path,
    rows: Iterable[Any],
    *,
    out: str = "out",
    resume: bool = False,
    listen: Callable[[TrainEvent], None] = lambda event: None,
    **keys: Any,
) -> tuple[Training, list[TrainEvent]]:
    base = folder / "base" if (folder / "base").is_dir() else tiny(folder)
    told = {"model": str(base), "data": str(write_rows(folder / "data.jsonl", rows)), "out": str(folder / out)}
    config = config_of({**told, "rank": 4, "length": 64, "rate": 0.01, "schedule": "constant", **keys})
    events: list[TrainEvent] = []

    def hear(event: TrainEvent) -> None:
        events.append(event)
        listen(event)

    return train(prepare(open_model(base), config), hear, resume=resume), events
