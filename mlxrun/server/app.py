"""The ASGI application: routes, guard, errors. It is handed an assistant and knows nothing below it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from threading import Barrier

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from ..assistant import Assistant
from ..core import RequestError, Sampling
from ..spec import ModelError
from .check import shown
from .dialect import Dialect, Json, Voice
from .dialects import DIALECTS
from .docs_page import POLICY, page
from .errors import ApiError, JsonResponse
from .exchange import Traffic
from .generate import Generate, House
from .guard import Guard
from .metrics import Counted, Metrics
from .openapi import document

BODY_LIMIT = 16 << 20  # bytes
MAX_CONCURRENT = 128
THREADS = 4  # that render and tokenize


@dataclass(frozen=True)
class ServerConfig:
    name: str  # of the model, for clients
    sampling: Sampling = field(default_factory=Sampling)  # where a request does not say
    key: str | None = None
    hosts: tuple[str, ...] = ()  # names that this server answers to, besides addresses and localhost
    origins: tuple[str, ...] = ()  # web pages that may ask
    max_concurrent: int = MAX_CONCURRENT  # answers on their way, queue included
    body_limit: int = BODY_LIMIT


class Server:
    """`app` is the ASGI application; `traffic` lets whoever runs it end what is on its way."""

    def __init__(self, assistant: Assistant, config: ServerConfig, dialects: Sequence[Dialect] = DIALECTS) -> None:
        self.metrics, self.traffic = Metrics(config.name), Traffic(config.max_concurrent)
        self._engine, self._name, self._created = assistant.engine, config.name, int(time.time())
        self.metrics.tell(assistant.engine.memory, assistant.engine.statistics)
        pool = started_pool(THREADS)
        voice = Voice(assistant, config.name, config.sampling)
        self._house = House(voice, self.traffic, self.metrics, pool, config.body_limit)
        self._dialects = {dialect.path: dialect for dialect in dialects}
        self._document = document(dialects, config.sampling)
        self._page = page(self._document)
        self.app = self._application(config)

    def _application(self, config: ServerConfig) -> Starlette:
        routes: list[BaseRoute] = [
            *(Route(d.path, Generate(self._house, d), methods=["POST"]) for d in self._dialects.values()),
            Route("/v1/models", self._models),
            Route("/v1/models/{id:path}", self._model),
            Route("/health", self._health),
            Route("/memory", self._memory),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", self._docs),
        ]
        paths = frozenset(route.path for route in routes if isinstance(route, Route))
        middleware = [
            Middleware(Counted, metrics=self.metrics, paths=paths),
            Middleware(Guard, names=config.hosts, origins=config.origins, key=config.key, refusal=self.refusal),
        ]
        if config.origins:
            cors = Middleware(
                CORSMiddleware, allow_origins=config.origins, allow_methods=["GET", "POST"], allow_headers=["*"]
            )
            middleware.append(cors)
        return Starlette(routes=routes, middleware=middleware, exception_handlers=self._handlers())

    def _handlers(self) -> dict[int | type[Exception], Callable[[Request, Exception], Awaitable[Response]]]:
        async def handle(request: Request, error: Exception) -> Response:
            return self.refusal(request.url.path, api_error(request, error))

        return dict.fromkeys((ApiError, RequestError, ModelError, HTTPException, Exception), handle)

    def refusal(self, path: str, error: ApiError) -> Response:
        """In the words of who speaks at that path."""
        dialect = self._dialects.get(path)
        return JsonResponse(error.body if dialect is None else dialect.error(error), error.status, error.headers)

    def close(self) -> None:
        self._house.pool.shutdown(wait=False, cancel_futures=True)

    async def _models(self, _: Request) -> Response:
        return JsonResponse({"object": "list", "data": [self._described()]})

    async def _model(self, request: Request) -> Response:
        self._house.voice.check_name(request.path_params["id"])
        return JsonResponse(self._described())

    def _described(self) -> Json:
        own = {"id": self._name, "object": "model", "created": self._created, "owned_by": "mlxrun"}
        return {**own, "context_length": self._engine.context}

    async def _health(self, _: Request) -> Response:
        stopping = self.traffic.stopping
        told: Json = {"status": "stopping" if stopping else "ok", "server": "mlxrun", "model": self._name}
        told["used"] = self._engine.used().data()
        return JsonResponse(told, 503 if stopping else 200)

    async def _memory(self, _: Request) -> Response:
        return JsonResponse(asdict(self._engine.memory()))

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _openapi(self, _: Request) -> Response:
        return JsonResponse(self._document)

    async def _docs(self, _: Request) -> Response:
        return HTMLResponse(self._page, headers={"content-security-policy": POLICY})


def started_pool(count: int) -> ThreadPoolExecutor:
    """With all its threads from the start, so that a server whose threads grow in number has a leak."""
    pool, all_there = ThreadPoolExecutor(count, "mlxrun-server"), Barrier(count)
    for job in [pool.submit(all_there.wait) for _ in range(count)]:
        job.result()
    return pool


def api_error(request: Request, error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
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
