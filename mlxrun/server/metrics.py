"""What /metrics tells, in Prometheus' text form. A registry of its own: two servers in one process do not mix."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..core import Memory
from ..engine.statistics import Statistics
from ..memory.machine import thread_count
from ..parts import Piece

LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)


class Metrics:
    def __init__(self, model: str) -> None:
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        Gauge("mlxrun_info", "1", ("version", "model"), registry=own).labels(__version__, model).set(1)
        self.requests = Counter("mlxrun_requests", "HTTP requests", ("path", "status"), registry=own)
        self.seconds = Histogram("mlxrun_request_seconds", "HTTP requests", ("path",), registry=own, buckets=LATENCY)
        self.answers = Counter("mlxrun_answers", "Answers that ended, and how", ("finish",), registry=own)
        self.waiting = Gauge("mlxrun_answers_waiting", "Answers of which nothing came yet", registry=own)
        self.running = Gauge("mlxrun_answers_running", "Answers that are coming", registry=own)
        self.prompt = Counter("mlxrun_prompt_tokens", "Tokens of prompts", registry=own)
        self.cached = Counter("mlxrun_cached_tokens", "Tokens of prompts that were in memory already", registry=own)
        self.output = Counter("mlxrun_output_tokens", "Tokens written", registry=own)
        self.first = Histogram("mlxrun_first_piece_seconds", "Until an answer begins", registry=own, buckets=LATENCY)
        self.prefill = Histogram("mlxrun_prefill_seconds", "Reading the prompt", registry=own, buckets=LATENCY)
        self.pace = Histogram(
            "mlxrun_token_seconds", "Between two tokens of an answer, its mean", registry=own, buckets=PER_TOKEN
        )
        self.whole = Histogram("mlxrun_answer_seconds", "Whole answers", registry=own, buckets=LATENCY)

    def tell(self, memory: Callable[[], Memory], statistics: Callable[[], Statistics]) -> None:
        """Of the engine, as it is whenever somebody asks."""
        self.registry.register(MemoryCollector(memory))
        self.registry.register(EngineCollector(statistics))

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def started(self, seconds: float) -> None:
        self.first.observe(seconds)
        self.waiting.dec()
        self.running.inc()

    def finished(self, piece: Piece, seconds: float) -> None:
        self.running.dec()
        self.answers.labels(str(piece.finish)).inc()
        self.whole.observe(seconds)
        if (usage := piece.usage) is not None:
            self.prompt.inc(usage.prompt_tokens)
            self.cached.inc(usage.cached_tokens)
            self.output.inc(usage.output_tokens)
            self.prefill.observe(usage.prefill_seconds)
            if usage.output_tokens > 1:
                self.pace.observe(usage.decode_seconds / (usage.output_tokens - 1))

    def left(self, *, started: bool) -> None:
        """Nobody reads the rest of this answer."""
        (self.running if started else self.waiting).dec()
        self.answers.labels("left").inc()


class MemoryCollector(Collector):
    """What this process holds just then."""

    def __init__(self, memory: Callable[[], Memory]) -> None:
        self._memory = memory

    def collect(self) -> Iterator[GaugeMetricFamily]:
        memory = self._memory()
        told = {
            "weights": memory.weights,
            "sequences": memory.cache - memory.prefix_cache,
            "prefix_cache": memory.prefix_cache,
            "freed": memory.freed,
        }
        held = GaugeMetricFamily("mlxrun_memory_bytes", "Bytes of arrays, by what they are for", labels=["of"])
        for of, count in told.items():
            held.add_metric([of], count)
        yield held
        yield GaugeMetricFamily("mlxrun_threads", "Threads of this process", value=thread_count())


class EngineCollector(Collector):
    """What the engine has counted, how things stand in it, and how long it finds passes to take."""

    def __init__(self, statistics: Callable[[], Statistics]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        told = self._statistics()
        totals = CounterMetricFamily("mlxrun_engine", "Counted since the model was loaded", labels=["of"])
        now = GaugeMetricFamily("mlxrun_engine_now", "As things stand", labels=["of"])
        seconds = GaugeMetricFamily("mlxrun_engine_usual_seconds", "Of a pass, or of a token in one", labels=["of"])
        for family, values in ((totals, told.totals), (now, told.now), (seconds, told.seconds)):
            for of, value in sorted(values.items()):
                family.add_metric([of], value)
            yield family


class Counted:
    """Counts and times every request under the path of its route, so that clients cannot invent labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), "left"

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        path = scope["path"] if scope["path"] in self._paths else "other"
        try:
            await self._app(scope, receive, noting)
        finally:
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)
