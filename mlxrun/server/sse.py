"""Server-sent events over ASGI: frames out, as long as somebody reads. Knows no dialect."""

from __future__ import annotations

from typing import Any

from starlette.types import Send

from .errors import encode

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the pieces back
]
DONE = b"data: [DONE]\n\n"
STILL_HERE = b": waiting\n\n"  # a comment, which clients skip


def frame(content: Any) -> bytes:
    return b"data: " + encode(content) + b"\n\n"


class EventStream:
    """Headers go out with the first bytes: until then an error can still have a status of its own."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.began = False

    async def write(self, frames: bytes, *, last: bool = False) -> None:
        if not self.began:
            self.began = True
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await self._send({"type": "http.response.body", "body": frames, "more_body": not last})
