"""Our server on a thread of this process, and the engine under it asked for the very same answers without a server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from asked import answer

from mlxrun.assistant import Assistant
from mlxrun.core import Constraint, Event, Finish, Request, Usage
from mlxrun.engine.handle import Handle
from mlxrun.engine.registry import RegistryLimits
from mlxrun.loading import LoadOptions
from mlxrun.server import run
from mlxrun.server.app import Server, ServerConfig
from mlxrun.server.dialect import Voice
from mlxrun.server.dialects.openai_chat import ChatCompletions
from mlxrun.server.models import Models

NAME = "m"
STILL = "still"  # the same model over an engine that says what `replay` is told
SETTLES = 0.01  # seconds in which the loop has told a token to everybody


class OnThread(run.Process):
    """Signals are the main thread's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Recorder:
    """In the engine's place: keeps what it is asked and answers nothing."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.asked, self.handles = engine, list[Request](), list[Handle]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit_choices(self, request: Request) -> tuple[Handle, ...]:
        self.asked.append(request)
        self.handles.append(Handle(request))
        return (self.handles[-1],)


class Served:
    def __init__(self, file: str, options: dict[str, Any]) -> None:
        ready = options.get("ready")
        loading = LoadOptions(ready=Path(ready) if ready else None, drafts=False)
        self.assistant = Assistant.open(Path(file), name=NAME, options=loading)
        self.voice = Voice(self.assistant, NAME, self.assistant.sampling)
        self.still = Recorder(self.assistant.engine)
        voices = {NAME: self.voice, STILL: replace(self.voice, assistant=self._speaking_by(self.still), name=STILL)}
        models = Models(
            lambda name, beside: voices[name], lambda: voices, NAME, RegistryLimits(pinned=frozenset(voices))
        )
        for name, voice in voices.items():
            models.registry.hold(name, voice)
        listener = run.listen("127.0.0.1", 0)
        self._port = listener.getsockname()[1]
        process = OnThread(Server(models, ServerConfig()), grace=1.0)

        def live() -> None:
            asyncio.run(process.serve(sockets=[listener]))

        self.thread = threading.Thread(target=live, daemon=True)
        self.thread.start()

    def port(self) -> int:
        return self._port

    def alone(self, bodies: list[dict[str, Any]]) -> dict[str, Any]:
        """The engine's own: each prompt is rendered and split before the clock starts."""
        requests = [self._request(body) for body in bodies]
        told = [Told() for _ in requests]
        began = time.perf_counter()
        for request, one in zip(requests, told, strict=True):
            one.begin(self.assistant.engine.submit(request))
        for one in told:
            one.ended.wait()
        seconds = time.perf_counter() - began
        tokens = sum(one.tokens for one in told)
        return {"first": [one.first - began for one in told], "tokens": tokens, "seconds": seconds}

    def _speaking_by(self, recorder: Recorder) -> Assistant:
        own = copy(self.assistant)
        own.engine = recorder  # type: ignore[assignment]  # as much of one as is asked
        return own

    def _request(self, body: dict[str, Any]) -> Request:
        recorder = Recorder(self.assistant.engine)
        ChatCompletions().read(body, replace(self.voice, assistant=self._speaking_by(recorder))).start()
        return recorder.asked[0]

    def replay(self, clients: int, text: str, times: int) -> list[float]:
        """Seconds of the processor that the event loop took for each token of `text`, told to so many clients who have
        asked STILL for it, token by token: an engine that takes nothing."""
        while len(self.still.handles) < clients:
            time.sleep(0.01)
        handles, self.still.handles = self.still.handles, []
        clock, took = time.pthread_getcpuclockid(self.thread.ident or 0), []
        for token in times * self.assistant.tokenizer.encode(text, special=False):
            before = time.clock_gettime(clock)
            for handle in handles:
                handle.post(Event((token,)))
            while time.clock_gettime(clock) == before:
                time.sleep(0.001)
            time.sleep(SETTLES)
            took.append((time.clock_gettime(clock) - before) / clients)
        for handle in handles:
            handle.post(Event(finish=Finish.STOP, usage=Usage(1, 0, len(took), 0.1, 0.1)))
        return took

    def compile(self, body: dict[str, Any]) -> dict[str, Any]:
        """Seconds to make the grammar of its tools, for the first time and once it is known; None: it has none."""
        self._request(body | {"tools": body["tools"][:1]})  # a vocabulary is sorted once
        self.assistant.engine._grammars.compiled(held(self._request(body | {"tools": body["tools"][:1]})))
        began = time.perf_counter()
        request = self._request(body)
        rendered = time.perf_counter()
        self.assistant.engine._grammars.compiled(held(request))
        compiled = time.perf_counter()
        self.assistant.engine._grammars.compiled(held(request))
        return {
            "render": rendered - began,
            "first": compiled - rendered,
            "known": time.perf_counter() - compiled,
            "characters": len(held(request).text),
        }


def held(request: Request) -> Constraint:
    assert request.constraint is not None, "this model's tools are held to no grammar"
    return request.constraint


class Told:
    def __init__(self) -> None:
        self.first, self.tokens, self.ended = 0.0, 0, threading.Event()

    def begin(self, handle: Handle) -> None:
        self._handle = handle
        handle.listen(self._ring)

    def _ring(self) -> None:
        for event in self._handle.ready():
            if event.tokens and not self.tokens:
                self.first = time.perf_counter()
            self.tokens += len(event.tokens)
            if event.finish is not None:
                self.ended.set()


if __name__ == "__main__":
    answer(Served)
