"""A stream for asyncio: one thread reads the blocking stream and hands its pieces to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from ..parts import Piece
from .stream import Stream
from .types import Reply


class AsyncStream:
    """Iterate with `async for`, once; `async with` ends it when left. `cancel` may come from any thread."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._news: asyncio.Queue[Piece | BaseException | None] | None = None

    def cancel(self) -> None:
        self._stream.cancel()

    @property
    def reply(self) -> Reply:
        return self._stream.reply

    def start(self) -> None:
        """Begin now; iterating begins by itself."""
        if self._news is None:
            self._news = asyncio.Queue()
            threading.Thread(
                target=self._pump, args=(asyncio.get_running_loop(), self._news), name="mlxrun-stream", daemon=True
            ).start()

    async def whole(self) -> Reply:
        async for _ in self:
            pass
        return self.reply

    async def __aiter__(self) -> AsyncIterator[Piece]:
        self.start()
        assert self._news is not None
        try:
            while (news := await self._news.get()) is not None:
                if isinstance(news, BaseException):
                    raise news
                yield news
        finally:
            self.cancel()

    async def __aenter__(self) -> AsyncStream:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def _pump(self, loop: asyncio.AbstractEventLoop, news: asyncio.Queue[Piece | BaseException | None]) -> None:
        last: BaseException | None = None
        try:
            for piece in self._stream:
                loop.call_soon_threadsafe(news.put_nowait, piece)
        except (OSError, ValueError, RuntimeError) as error:
            last = error
        try:
            if last is not None:
                loop.call_soon_threadsafe(news.put_nowait, last)
            loop.call_soon_threadsafe(news.put_nowait, None)
        except RuntimeError:  # the event loop is closed: nobody listens any more
            self._stream.cancel()
