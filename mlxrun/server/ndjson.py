"""JSON objects as lines. Knows no dialect."""

from __future__ import annotations

from typing import Any

from .errors import encode

MEDIA_TYPE = "application/x-ndjson"


def line(content: Any) -> bytes:
    """A line is never empty: readers take one for JSON."""
    return encode(content) + b"\n"
