"""What passed between an agent and a server, and what it comes to. An ASGI application round another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import httpx
import uvicorn

from mlxrun.server.run import address_of, listen

HOP = {b"host", b"content-length", b"transfer-encoding", b"connection", b"accept-encoding"}
PATIENCE = 3600.0  # seconds that a prompt may be read


@dataclass
class Passed:
    """A request and its answer."""

    method: str
    path: str
    asked: bytes = b""
    status: int = 0
    answer: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.asked))
        except (ValueError, TypeError):
            return {}

    @property
    def results(self) -> int:
        """Of tools, in the conversation that it asks about: so many calls were made and answered."""
        found = 0
        for item in self.body.get("input") or self.body.get("messages") or ():
            if isinstance(item, dict):
                content = item.get("content")
                blocks = content if isinstance(content, list) else ()
                found += str(item.get("type")).endswith("_call_output") or item.get("role") == "tool"
                found += sum(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)
        return found

    @property
    def error(self) -> str | None:
        """What went wrong between the two, in a line; None: nothing."""
        told = b"".join(self.answer)
        if self.status >= 400:
            return f"{self.method} {self.path}: {self.status} {told[:300].decode(errors='replace')}"
        for sign in (b"event: response.failed", b"event: error", b'data: {"error"'):
            if sign in told:
                return f"{self.method} {self.path}: {told[told.index(sign) :][:300].decode(errors='replace')}"
        return None


class Recorder:
    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.passed: list[Passed] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        one = Passed(scope["method"], scope["path"])
        self.passed.append(one)

        async def hear() -> Any:
            message = await receive()
            one.asked += message.get("body", b"") if message["type"] == "http.request" else b""
            return message

        async def tell(message: Any) -> None:
            if message["type"] == "http.response.start":
                one.status = message["status"]
            else:
                one.answer.append(message.get("body", b""))
            await send(message)

        await self._inner(scope, hear, tell)


class Proxy:
    """A server elsewhere as an application here."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._client = self._client or httpx.AsyncClient(base_url=self._url, timeout=PATIENCE)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = [(name, value) for name, value in scope["headers"] if name not in HOP]
        path = scope["path"] + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        request = self._client.build_request(scope["method"], path, headers=headers, content=body)
        answer = await self._client.send(request, stream=True)
        try:
            kept = [pair for pair in answer.headers.raw if pair[0].lower() not in HOP]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
            async for block in answer.aiter_raw():
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()


@contextmanager
def listening(recorder: Recorder) -> Iterator[str]:
    """The address under which it answers."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(recorder, http="h11", ws="none", lifespan="off", log_level="error", timeout_keep_alive=75)
    process = uvicorn.Server(config)
    thread = Thread(target=process.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield address_of(listener)
    finally:
        process.should_exit = True
        thread.join(10)
        listener.close()
