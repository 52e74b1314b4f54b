"""POST in, an answer out, whole or piece by piece: the way of a request, whatever its dialect."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from .. import __version__
from ..assistant import Answer, Piece
from ..core import Usage
from . import body
from .ask import Ask, Dialect, Json, Voice, counted, finish_of, joined
from .errors import ApiError, JsonResponse
from .exchange import ClientGone, Exchange, Traffic, started, while_there
from .metrics import Metrics
from .sse import DONE, STILL_HERE, EventStream, frame

IDLE = 15.0  # seconds without a piece after which a stream says that it is still there


@dataclass(frozen=True)
class House:
    voice: Voice
    traffic: Traffic
    metrics: Metrics
    pool: ThreadPoolExecutor  # for what takes longer than the event loop may stand still
    body_limit: int


class Generate:
    """An ASGI endpoint of its own: Starlette's responses do not notice a client that leaves before they begin."""

    def __init__(self, house: House, dialect: Dialect) -> None:
        self._house, self._dialect = house, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await body.read(Request(scope, receive), self._house.body_limit)
        with suppress(ClientGone):
            await while_there(receive, self._respond(raw, scope, receive, send))

    async def _respond(self, raw: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        house, loop = self._house, asyncio.get_running_loop()
        ask = await loop.run_in_executor(house.pool, lambda: self._dialect.read(body.parse(raw), house.voice))
        answers: list[Answer] = []
        if not house.traffic.reserve(ask.answers):
            message = f"{house.traffic.limit} answers are on their way already, and no more may be; try again."
            raise ApiError(429, message, code="too_many_requests", headers={"retry-after": "1"})
        try:
            answers = await started(house.pool, ask.start)
            house.traffic.enter(answers)
            exchange = Exchange(answers, house.metrics)
            try:
                reply = Reply(ask, house.voice.name)
                if ask.stream:
                    await reply.stream(exchange, EventStream(send))
                else:
                    await JsonResponse(await reply.whole(exchange))(scope, receive, send)
            finally:
                exchange.close()
        finally:
            house.traffic.leave(ask.answers, answers)


class Reply:
    """One request's answers in its dialect's words."""

    def __init__(self, ask: Ask, model: str) -> None:
        self._ask = ask
        self._head = {
            "id": f"{ask.encoder.id_prefix}{secrets.token_hex(12)}",
            "object": ask.encoder.stream_object if ask.stream else ask.encoder.whole_object,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"mlxrun-{__version__}",
        }
        self._opened: set[int] = set()
        self._usages: dict[int, Usage] = {}

    async def whole(self, exchange: Exchange) -> Json:
        pieces: dict[int, list[Piece]] = {index: [] for index in range(self._ask.answers)}
        async for batch in exchange.batches(IDLE):
            for index, piece in batch:
                finish_of(piece)  # one that failed ends the others at once
                pieces[index].append(piece)
                self._note(index, piece)
        choices = [self._ask.encoder.whole(index, joined(pieces[index])) for index in sorted(pieces)]
        return {**self._head, "choices": choices, "usage": self._counted()}

    async def stream(self, exchange: Exchange, out: EventStream) -> None:
        try:
            async for batch in exchange.batches(IDLE):
                await out.write(b"".join(self._frames(batch)) if batch else STILL_HERE)
        except ApiError as error:
            if not out.began:
                raise
            await out.write(frame(error.body), last=True)
            return
        end = frame({**self._head, "choices": [], "usage": self._counted()}) if self._ask.include_usage else b""
        await out.write(end + DONE, last=True)

    def _frames(self, batch: Sequence[tuple[int, Piece]]) -> Iterator[bytes]:
        usage = {"usage": None} if self._ask.include_usage else {}
        for index, piece in batch:
            self._note(index, piece)
            choices = [self._ask.encoder.delta(index, piece)]
            if index not in self._opened:
                self._opened.add(index)
                opening = self._ask.encoder.opening(index)
                choices = choices if opening is None else [opening, *choices]
            for choice in choices:
                yield frame({**self._head, "choices": [choice], **usage})

    def _note(self, index: int, piece: Piece) -> None:
        if piece.usage is not None:
            self._usages[index] = piece.usage

    def _counted(self) -> Json:
        return counted([self._usages[index] for index in sorted(self._usages)], self._ask.per_prompt)
