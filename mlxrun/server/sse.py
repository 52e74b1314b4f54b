"""Server-sent events as bytes. Knows no dialect."""

from __future__ import annotations

from typing import Any

from .errors import encode

MEDIA_TYPE = "text/event-stream; charset=utf-8"
STILL_HERE = b": waiting\n\n"  # a comment, which clients skip


def frame(content: Any, event: str | None = None) -> bytes:
    named = b"" if event is None else b"event: " + event.encode() + b"\n"
    return named + b"data: " + encode(content) + b"\n\n"
