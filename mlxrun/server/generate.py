"""POST in, an answer out, whole or piece by piece: the way of a request, whatever its dialect."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from ..memory.headroom import trim_heaps
from ..parts import Piece, joined
from . import left_out
from .answering import Answering
from .body import read
from .dialect import Body, Dialect, Encoder, Job, Json, WantedModel
from .errors import LATER, ApiError, JsonResponse, failure_of, later
from .exchange import ClientGone, Exchange, Traffic, started, while_there, worked
from .guard import CLIENT
from .in_flight import SHARE
from .metrics import Metrics
from .models import Models
from .pulls import Pulls
from .request_log import note_end, note_job

T = TypeVar("T")
LARGE = 128 << 10  # bytes of a body: to parse, render and tokenize it takes so long that others must not wait for it
TRIMMED = 1 << 20  # bytes of a body that took many times as much of the heaps
SOON = 1.0  # seconds that one who may not ask now stays away, at least
IDLE = 10.0  # seconds without a piece after which a stream says that it is still there
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the pieces back
]


@dataclass(frozen=True)
class House:
    models: Models
    traffic: Traffic
    metrics: Metrics
    pool: ThreadPoolExecutor  # for what takes longer than the event loop may stand still
    large: ThreadPoolExecutor  # the same for large bodies
    body_limit: int
    strict: bool = False  # what is not known is an error, instead of being left out
    pulls: Pulls | None = None  # None: no model is fetched for a client

    def for_body(self, size: int) -> House:
        """As it is for a request whose body has so many bytes."""
        return replace(self, pool=self.large) if size > LARGE else self

    async def aside(self, work: Callable[[], T]) -> T:
        """What may look at the disk, or take long."""
        return await worked(self.pool, work)


class Generate:
    """An ASGI endpoint of its own: Starlette's responses do not notice a client that leaves before they begin."""

    def __init__(self, house: House, dialect: Dialect) -> None:
        self._house, self._dialect = house, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = [await read(Request(scope, receive), self._house.body_limit)]
        size = len(arrived[0])
        pool = self._house.for_body(size).pool
        try:
            with suppress(ClientGone):
                await while_there(receive, self._respond(arrived, pool, scope, receive, send))
        finally:
            if size > TRIMMED:
                self._house.pool.submit(trim_heaps)

    async def _respond(
        self, arrived: list[bytes], pool: ThreadPoolExecutor, scope: Scope, receive: Receive, send: Send
    ) -> None:
        house = self._house
        with Reserved(house) as place:
            body, unknown, wanted, name = await worked(pool, lambda: self._wanted(arrived.pop()))
            if wanted.before is not None:
                await wanted.before()
            asked = time.perf_counter()
            lease = await house.models.lease(name, wanted.keep)
            try:
                voice = lease.model.asked_by(scope.get(CLIENT, ""), waited=time.perf_counter() - asked)
                job = await worked(pool, partial(self._dialect.read, body, voice))
                del body
                job = self._heeded(job, unknown, scope)
                note_job(scope, name, job.answers, job.stream, job.left_out)
                place.widen(job.answers)
                answers = await started(pool, job.start)
                job = replace(job, start=list)  # what was asked is not held while it is answered
                scope[SHARE].release()
                await self._answer(job, answers, scope, receive, send)
            finally:
                lease.release()

    def _wanted(self, raw: bytes) -> tuple[Body, tuple[str, ...], WantedModel, str]:
        body, unknown = left_out.understood(raw, self._dialect.operation.request, strict=self._house.strict)
        wanted = self._dialect.check(body)
        return body, unknown, wanted, self._house.models.name_of(wanted.model)

    def _heeded(self, job: Job, unknown: tuple[str, ...], scope: Scope) -> Job:
        """With all that was left out, and that is told; or it is an error."""
        names = (*unknown, *job.left_out)
        if self._house.strict:
            left_out.refuse(names)
        if names:
            left_out.log(scope["path"], names)
        return replace(job, left_out=names)

    async def _answer(self, job: Job, answers: Sequence[Answering], scope: Scope, receive: Receive, send: Send) -> None:
        house = self._house
        with house.traffic.running(answers):
            exchange = Exchange(answers, house.metrics, partial(note_end, scope))
            try:
                if job.stream:
                    await stream(exchange, BodyStream(send, job.encoder, headers_of(job)))
                else:
                    await JsonResponse(await whole(exchange, job), headers=headers_of(job))(scope, receive, send)
            finally:
                exchange.close()


class Reserved:
    """Of so many answers among those that are on their way; of one while it is not known of how many."""

    def __init__(self, house: House) -> None:
        self._traffic, self._models, self._count = house.traffic, house.models, 0

    def __enter__(self) -> Reserved:
        if self._traffic.stopping:
            raise ApiError(503, "The server is stopping.", headers=LATER)
        self.widen(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._traffic.leave(self._count)

    def widen(self, count: int) -> None:
        if not self._traffic.reserve(count - self._count):
            message = f"{self._traffic.limit} answers are on their way already, and no more may be; try again."
            wait = later(max(SOON, self._models.seconds_between_ends()))
            raise ApiError(429, message, code="too_many_requests", headers=wait)
        self._count = count


class BodyStream:
    """A body in pieces. Headers go out with the first bytes: until then an error can have a status of its own."""

    def __init__(self, send: Send, encoder: Encoder, headers: Mapping[str, str] | None = None) -> None:
        self._send, self.encoder, self._headers = send, encoder, headers or {}
        self.began = False

    async def write(self, frames: bytes, *, last: bool = False) -> None:
        if not self.began:
            self.began = True
            headers = [(b"content-type", self.encoder.media_type.encode()), *HEADERS]
            headers += [(name.encode(), value.encode()) for name, value in self._headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            frames = self.encoder.begin() + frames
        await self._send({"type": "http.response.body", "body": frames, "more_body": not last})


def headers_of(job: Job) -> dict[str, str]:
    return {**job.headers, **({left_out.HEADER: left_out.listed(job.left_out)} if job.left_out else {})}


async def whole(exchange: Exchange, job: Job) -> Json:
    pieces: list[list[Piece]] = [[] for _ in range(job.answers)]
    async for batch in exchange.batches(IDLE):
        for index, piece in batch:
            if (error := failure_of(piece)) is not None:
                raise error  # and ends the others at once
            pieces[index].append(piece)
    return job.encoder.whole([joined(own) for own in pieces])


async def stream(exchange: Exchange, out: BodyStream) -> None:
    encoder, lasts = out.encoder, dict[int, Piece]()
    async for batch in exchange.batches(IDLE):
        if not batch:
            await out.write(encoder.idle())
            continue
        frames, error = written(encoder, batch)
        if error is not None:
            if not out.began:
                raise error
            await out.write(frames + encoder.failed(error), last=True)
            return
        await out.write(frames)
        lasts |= {index: piece for index, piece in batch if piece.finish is not None}
    await out.write(encoder.end([lasts[index] for index in sorted(lasts)]), last=True)


def written(encoder: Encoder, batch: Sequence[tuple[int, Piece]]) -> tuple[bytes, ApiError | None]:
    """What these pieces come to, and why the stream breaks off after them, if it does. Text before that is kept."""
    frames: list[bytes] = []
    for index, piece in batch:
        error = failure_of(piece)
        try:
            if error is None:
                frames.append(encoder.piece(index, piece))
            elif piece.parts:
                frames.append(encoder.piece(index, replace(piece, finish=None)))
        except ApiError as refused:  # a part that the dialect has no place for
            error = refused
        if error is not None:
            return b"".join(frames), error
    return b"".join(frames), None
