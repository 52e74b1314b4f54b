"""The ASGI application: routes, guard, errors. It is handed models and knows nothing below them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from threading import Barrier
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from ..core import ContextError, RequestError, Sampling
from ..spec import ModelError
from .body import parse, read
from .check import check, shown
from .dialect import Dialect, ErrorWords, Json, Plain
from .dialects import DIALECTS, PLAINS, TREES, model_list, remembering
from .docs_page import POLICY, page
from .errors import ApiError, JsonResponse, too_long
from .exchange import Traffic
from .generate import Generate, House
from .guard import APP_ORIGIN, APPS, Guard
from .in_flight import BodyRoom, InFlight
from .metrics import Counted, Metrics
from .models import Models
from .openapi import NAMED, document
from .page import WebPage
from .pulls import Pulls
from .request_log import Logged
from .stored import StoredAnswers

BODY_LIMIT = 32 << 20  # bytes: pictures come in it
MAX_CONCURRENT = 128
THREADS = 4  # that render and tokenize
LARGE_THREADS = 2  # that do it with large bodies
VERSION = "/v1"  # before the paths of most dialects
T = TypeVar("T")
Handed = Callable[[Request, House], Awaitable[Response]]


@dataclass(frozen=True)
class ServerConfig:
    sampling: Sampling = field(default_factory=Sampling)  # that the documents tell, where a request does not say
    key: str | None = None
    hosts: tuple[str, ...] = ()  # names that this server answers to, besides addresses and localhost
    origins: tuple[str, ...] = ()  # web pages that may ask
    max_concurrent: int = MAX_CONCURRENT  # answers on their way, queue included
    body_limit: int = BODY_LIMIT
    strict: bool = False  # a field that is not known is an error, instead of being left out and told


class Server:
    """`app` is the ASGI application; `traffic` lets whoever runs it end what is on its way."""

    def __init__(
        self,
        models: Models,
        config: ServerConfig,
        dialects: Sequence[Dialect] = DIALECTS,
        plains: Sequence[Plain] = PLAINS,
        stored: StoredAnswers | None = None,
        pulls: Pulls | None = None,
    ) -> None:
        self._stored = stored or StoredAnswers()
        own_dialects, own_plains = remembering(self._stored)
        dialects, plains = (*dialects, *own_dialects), (*plains, *own_plains)
        self.metrics, self.traffic = Metrics(models.first or ""), Traffic(config.max_concurrent)
        self.models, self.bodies = models, BodyRoom()
        self.metrics.tell(models.memory, models.statistics)
        self._house = House(
            models,
            self.traffic,
            self.metrics,
            pool=started_pool(THREADS),
            large=started_pool(LARGE_THREADS),
            body_limit=config.body_limit,
            strict=config.strict,
            pulls=pulls,
        )
        self._dialects, self._plains = dialects, plains
        self._words: dict[str, ErrorWords] = TREES | {p.path: p.words for p in plains} | at_paths(dialects)
        self._document = document(dialects, plains, config.sampling)
        self._page = page(self._document)
        self.app = self._application(config)

    def _application(self, config: ServerConfig) -> Starlette:
        routes: list[BaseRoute] = [
            *(Route(path, Generate(self._house, d), methods=["POST"]) for path, d in at_paths(self._dialects).items()),
            *(Route(p.path, self._handed(p.answer), methods=list(p.methods)) for p in self._plains),
            Route("/v1/models", self._handed(model_list.models)),
            Route("/models", self._handed(model_list.models)),
            Route("/v1/models/{id:path}", self._handed(model_list.model)),
            Route("/api/v0/models", self._handed(model_list.lm_studio_models)),
            Route("/api/v0/models/{id:path}", self._handed(model_list.lm_studio_model)),
            Route("/models/load", self._load, methods=["POST"]),
            Route("/models/unload", self._unload, methods=["POST"]),
            Route("/health", self._health),
            Route("/memory", self._memory),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", self._docs),
            Route("/", WebPage().answer),
        ]
        paths = frozenset(route.path for route in routes if isinstance(route, Route))
        middleware = [
            Middleware(Logged, paths=paths),
            Middleware(InFlight, room=self.bodies),
            Middleware(Counted, metrics=self.metrics, paths=paths),
            Middleware(Guard, names=config.hosts, origins=config.origins, key=config.key, refusal=self.refusal),
        ]
        if config.origins:
            cors = Middleware(
                CORSMiddleware,
                allow_origins=config.origins,
                allow_origin_regex=APP_ORIGIN if APPS in config.origins else None,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
            )
            middleware.append(cors)
        return Starlette(routes=routes, middleware=middleware, exception_handlers=self._handlers())

    def _handlers(self) -> dict[int | type[Exception], Callable[[Request, Exception], Awaitable[Response]]]:
        async def handle(request: Request, error: Exception) -> Response:
            return self.refusal(request.url.path, api_error(request, error))

        return dict.fromkeys((ApiError, RequestError, ModelError, HTTPException, Exception), handle)

    def refusal(self, path: str, error: ApiError) -> Response:
        """In the words of who speaks at that path, or at the longest path above it."""
        while path and path not in self._words:
            path = path.rpartition("/")[0]
        words = self._words.get(path)
        told = error.body if words is None else words.error(error)
        return told if isinstance(told, Response) else JsonResponse(told, error.status, error.headers)

    def drain(self) -> None:
        """Take no more; what is on its way goes on."""
        self.traffic.drain()

    def stop(self) -> None:
        """End what is on its way, loads included; each answer says so to its reader."""
        self.traffic.stop()
        self.models.stop()

    def close(self) -> None:
        for pool in (self._house.pool, self._house.large):
            pool.shutdown(wait=False, cancel_futures=True)
        self._stored.close()

    def _handed(
        self, answer: Callable[[Request, House], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            return await answer(request, self._house)

        return answered

    async def _load(self, request: Request) -> Response:
        """Answers when it is loaded, so that who asks learns why it is not."""
        lease = await self.models.lease(await self._named(request))
        lease.release()
        return JsonResponse({"success": True})

    async def _unload(self, request: Request) -> Response:
        name = await self._named(request)
        return JsonResponse({"success": self.models.registry.unload(self.models.base(name))})

    async def _named(self, request: Request) -> str:
        body = parse(await read(request, self._house.body_limit))
        check(body, NAMED)
        return await self._house.aside(lambda: self.models.name_of(body["model"]))

    async def _health(self, _: Request) -> Response:
        stopping, first = self.traffic.stopping, self.models.first
        told: Json = {"status": "stopping" if stopping else "ok", "server": "mlxrun", "model": first}
        told["models"] = loaded = self.models.loaded()
        told["used"] = next((one["used"] for one in loaded if one["name"] == first), None)
        return JsonResponse(told, 503 if stopping else 200)

    async def _memory(self, _: Request) -> Response:
        return JsonResponse(asdict(self.models.memory()))

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _openapi(self, _: Request) -> Response:
        return JsonResponse(self._document)

    async def _docs(self, _: Request) -> Response:
        return HTMLResponse(self._page, headers={"content-security-policy": POLICY})


def at_paths(dialects: Sequence[Dialect]) -> dict[str, Dialect]:
    """Each at its path, and without the version before it: many a program is given the address of the server alone."""
    shorter = {dialect.path.removeprefix(VERSION): dialect for dialect in dialects}
    return shorter | {dialect.path: dialect for dialect in dialects}


def started_pool(count: int) -> ThreadPoolExecutor:
    """With all its threads from the start, so that a server whose threads grow in number has a leak."""
    pool, all_there = ThreadPoolExecutor(count, "mlxrun-server"), Barrier(count)
    for job in [pool.submit(all_there.wait) for _ in range(count)]:
        job.result()
    return pool


def api_error(request: Request, error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextError):
        return too_long(str(error), error.tokens, error.context)
    if isinstance(error, RequestError | ModelError):
        return ApiError(400, str(error))
    if not isinstance(error, HTTPException):
        return ApiError(500, f"The server made a mistake ({type(error).__name__}); its log tells more.")
    path = shown(request.url.path)
    messages = {
        404: f"There is nothing at {path}; /docs tells what there is.",
        405: f"{request.method} is not allowed at {path}.",
    }
    message = messages.get(error.status_code, error.detail)
    return ApiError(error.status_code, message, headers=error.headers)
