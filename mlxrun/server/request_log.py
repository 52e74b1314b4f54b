"""One line of JSON a request: which path and model, how it ended, how many tokens, how long. No text of anybody, no
key, no query, no address; names that requests bring are shortened, and JSON escapes them.

Lines are written on a thread of their own: a full pipe or disk holds up the log and no answer.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from queue import Queue
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core import RequestError
from ..parts import Piece

NOTES = "mlxrun.log"  # in the scope: what whoever answers adds to the line
LOG = logging.getLogger("mlxrun.requests")
STDERR = "-"
WAITING = 10_000  # lines; more are dropped
MOST_NAMES, MOST_NAME = 20, 80
OTHER = "other"


@contextmanager
def written(place: str | None) -> Iterator[None]:
    """`place`: a file, made for its owner alone and added to, or STDERR; None: nothing is written."""
    if place is None:
        yield
        return
    try:
        target: logging.Handler = logging.StreamHandler(sys.stderr) if place == STDERR else added_to(Path(place))
    except OSError as error:
        raise RequestError(f"{place} cannot be written to as a log: {error.strerror}.") from error
    lines: Queue[Any] = Queue(WAITING)
    handler = QueueHandler(lines)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # the queue is full: a line less
    LOG.propagate = False
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    listener = QueueListener(lines, target)
    listener.start()
    try:
        yield
    finally:
        LOG.setLevel(logging.NOTSET)
        LOG.handlers.clear()
        listener.stop()
        target.close()


def added_to(place: Path) -> logging.Handler:
    os.close(os.open(place.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return logging.FileHandler(place.expanduser(), encoding="utf-8")


class Logged:
    def __init__(self, app: ASGIApp, paths: frozenset[str]) -> None:
        self._app, self._paths = app, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not LOG.handlers:
            await self._app(scope, receive, send)
            return
        notes: dict[str, Any] = {}
        began, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app({**scope, NOTES: notes}, receive, noting)
        finally:
            LOG.info(line(scope, self._paths, status, time.perf_counter() - began, notes))


def line(scope: Scope, paths: frozenset[str], status: int, seconds: float, notes: dict[str, Any]) -> str:
    told = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "method": scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "DELETE", "OPTIONS") else OTHER,
        "path": scope["path"] if scope["path"] in paths else OTHER,
        "status": status or "left",
        "seconds": round(seconds, 3),
        **notes,
    }
    return json.dumps(told)


def note_job(scope: Scope, model: str, answers: int, stream: bool, left_out: tuple[str, ...]) -> None:
    notes = scope.get(NOTES)
    if notes is not None:
        notes |= {"model": model, "answers": answers, "stream": stream}
        if left_out:
            notes["left_out"] = [name[:MOST_NAME] for name in left_out[:MOST_NAMES]]


def note_end(scope: Scope, piece: Piece) -> None:
    """Of one answer; those of one request are added up."""
    notes = scope.get(NOTES)
    if notes is None or piece.finish is None:
        return
    notes.setdefault("finish", str(piece.finish))
    if (usage := piece.usage) is not None:
        counts = {"prompt": usage.prompt_tokens, "cached": usage.cached_tokens, "output": usage.output_tokens}
        for name, count in counts.items():
            notes[f"{name}_tokens"] = notes.get(f"{name}_tokens", 0) + count
        notes.setdefault("prefill_seconds", round(usage.prefill_seconds, 3))
