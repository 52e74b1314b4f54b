"""How many bytes of bodies are held at once, all requests together, and a request's share of them."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import LATER, ApiError

MOST = 128 << 20  # bytes
SHARE = "mlxrun.body"  # in the scope


@dataclass
class BodyRoom:
    most: int = MOST
    held: int = 0


class BodyShare:
    def __init__(self, room: BodyRoom) -> None:
        self._room, self._held = room, 0

    def grow(self, count: int) -> None:
        if self._room.held + count > self._room.most:
            message = f"Requests of {self._room.held} bytes are on their way already; ask again later."
            raise ApiError(503, message, headers={**LATER, "connection": "close"})
        self._held += count
        self._room.held += count

    def release(self) -> None:
        """Nothing of the body is held any more."""
        self._room.held -= self._held
        self._held = 0


class InFlight:
    def __init__(self, app: ASGIApp, room: BodyRoom) -> None:
        self._app, self._room = app, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        share = BodyShare(self._room)

        async def counted() -> Message:
            message = await receive()
            share.grow(len(message.get("body", b"")))
            return message

        try:
            await self._app({**scope, SHARE: share}, counted, send)
        finally:
            share.release()
