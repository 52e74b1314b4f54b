"""Answers on their way: who leaves, who reads slowly, what the loop's thread is spared, what metrics say of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mlxrun.core import Event, Finish, Usage
from mlxrun.engine.handle import Handle
from mlxrun.server import generate
from mlxrun.server.app import Server

from .scripted import ScriptedEngine, ask, chat, server

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
USAGE = Usage(1, 0, 1, 0.1, 0.1)


class Client:
    """One connection as an ASGI server drives it; the test decides when to leave and when to read."""

    def __init__(self, own: Server, body: dict[str, Any]) -> None:
        self.own, self.body = own, json.dumps(body).encode()
        self.left, self.reads = asyncio.Event(), asyncio.Event()
        self.reads.set()
        self.sent: list[bytes] = []
        self.status: int | None = None
        self._asked = False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        await self.own.app({**scope, "query_string": b"", "root_path": ""}, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self.status = message.get("status", self.status)
        if message.get("body"):
            self.sent.append(message["body"])


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


async def until(true: Callable[[], bool]) -> None:
    while not true():  # other threads make it true, and nothing tells us
        await asyncio.sleep(0.001)


def gauge(own: Server, name: str) -> float | None:
    return own.metrics.registry.get_sample_value(name)


async def asked(engine: ScriptedEngine, count: int = 1) -> Handle:
    await until(lambda: len(engine.handles) == count)
    return engine.handles[-1]


def test_a_client_that_leaves_cancels_its_answer_streaming_or_not() -> None:
    async def test() -> None:
        for stream in (False, True):
            own, engine = server(ScriptedEngine(held=True))
            client = Client(own, {**CHAT, "stream": stream, "n": 2})
            handle = await asked(engine, 2)
            handle.post(Event((72,)))
            await until(lambda own=own: gauge(own, "mlxrun_answers_running") == 1)
            client.left.set()
            await client.task
            assert [h.cancelled for h in engine.handles] == [True, True]
            assert gauge(own, "mlxrun_answers_running") == gauge(own, "mlxrun_answers_waiting") == 0
            assert own.metrics.registry.get_sample_value("mlxrun_answers_total", {"finish": "left"}) == 2
            assert own.traffic.reserve(own.traffic.limit)  # its slots are free

    run(test)


def test_a_client_that_leaves_while_its_prompt_is_rendered() -> None:
    async def test() -> None:
        go, entered = threading.Event(), threading.Event()
        own, engine = server(ScriptedEngine(held=True))
        submit = engine.submit

        def slow(request: Any) -> Handle:
            entered.set()
            go.wait(30)
            return submit(request)

        engine.submit = slow  # type: ignore[method-assign]  # a slow template, for short
        client = Client(own, CHAT)
        await until(entered.is_set)
        client.left.set()
        await client.task
        assert engine.handles == []
        go.set()
        handle = await asked(engine)
        await until(lambda: handle.cancelled)

    run(test)


def test_a_slow_reader_finds_its_pieces_joined_and_holds_up_nobody() -> None:
    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True))
        slow = Client(own, {**CHAT, "stream": True})
        handle = await asked(engine)
        slow.reads.clear()
        for token in b"abc":
            handle.post(Event((token,)))
        await until(lambda: gauge(own, "mlxrun_answers_running") == 1)
        for token in b"def" * 1000:
            handle.post(Event((token,)))  # never blocks
        handle.post(Event(finish=Finish.STOP, usage=USAGE))
        quick = Client(own, {**CHAT, "stream": True})
        for event in ((Event((72,))), Event(finish=Finish.STOP, usage=USAGE)):
            (await asked(engine, 2)).post(event)
        await quick.task
        assert slow.sent == []
        slow.reads.set()
        await slow.task
        frames = b"".join(slow.sent).decode().split("\n\n")
        said = [json.loads(frame[6:])["choices"][0]["delta"].get("content", "") for frame in frames[:-2]]
        assert "".join(said) == "abc" + "def" * 1000
        assert len(said) < 10

    run(test)


def test_a_ring_may_come_from_any_thread_at_any_time() -> None:
    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True))
        clients = [Client(own, {**CHAT, "stream": True}) for _ in range(8)]
        await asked(engine, 8)

        def post(handle: Handle) -> None:
            for _ in range(500):
                handle.post(Event((97,)))
            handle.post(Event(finish=Finish.STOP, usage=USAGE))

        threads = [threading.Thread(target=post, args=(handle,)) for handle in engine.handles]
        for thread in threads:
            thread.start()
        for client in clients:
            await client.task
            frames = b"".join(client.sent).decode().split("\n\n")
            said = [json.loads(frame[6:])["choices"][0]["delta"].get("content", "") for frame in frames[:-2]]
            assert "".join(said) == "a" * 500

    run(test)


def test_a_stream_says_that_it_is_still_there_also_while_tokens_come_that_show_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generate, "IDLE", 0.3)

    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True))
        client = Client(own, {**CHAT, "stream": True})
        handle = await asked(engine)
        while client.sent.count(b": waiting\n\n") < 1:
            handle.post(Event())
            await asyncio.sleep(0)
        handle.post(Event((72,)))
        handle.post(Event(finish=Finish.STOP, usage=USAGE))
        await client.task
        assert b"[DONE]" in client.sent[-1]

    run(test)


def test_stopping_ends_what_runs_and_what_comes() -> None:
    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True))
        stream, whole = Client(own, {**CHAT, "stream": True}), Client(own, CHAT)
        await asked(engine, 2)
        engine.handles[0].post(Event((72,)))
        own.traffic.stop()
        for handle in engine.handles:
            await until(lambda handle=handle: handle.cancelled)  # one may not have entered yet
            handle.post(Event(finish=Finish.CANCELLED, usage=USAGE))
        await asyncio.gather(stream.task, whole.task)
        told = b"".join(stream.sent + whole.sent).decode()
        assert told.count("The server is stopping.") == 2
        late = Client(own, CHAT)
        await late.task
        assert (late.status, len(engine.handles)) == (503, 2)

    run(test)


def test_a_stream_that_breaks_says_so_in_the_stream() -> None:
    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True))
        client = Client(own, {**CHAT, "stream": True})
        handle = await asked(engine)
        handle.post(Event((72,)))
        await until(lambda: bool(client.sent))
        handle.post(Event(finish=Finish.FAILED, reason="It broke."))
        await client.task
        assert client.status == 200
        assert json.loads(client.sent[-1][6:])["error"]["message"] == "It broke."

    run(test)


def test_one_answer_that_fails_ends_its_fellows() -> None:
    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True))
        client = Client(own, {**CHAT, "n": 2})
        await asked(engine, 2)
        engine.handles[1].post(Event(finish=Finish.FAILED, reason="It broke."))
        await client.task
        assert (client.status, engine.handles[0].cancelled) == (500, True)

    run(test)


def test_metrics_count_what_was_said() -> None:
    own, _ = server(ScriptedEngine(cached=2))
    chat(own)
    chat(own, n=2, stream=True)
    chat(own, n=0)
    text = ask(own, "/metrics").text
    for line in (
        'mlxrun_requests_total{path="/v1/chat/completions",status="200"} 2.0',
        'mlxrun_requests_total{path="/v1/chat/completions",status="400"} 1.0',
        "mlxrun_output_tokens_total 15.0",
        "mlxrun_cached_tokens_total 6.0",
        'mlxrun_answers_total{finish="stop"} 3.0',
        "mlxrun_answers_running 0.0",
        'mlxrun_info{model="scripted"',
    ):
        assert line in text
    ask(own, "/invented-by-a-client")
    assert "invented" not in ask(own, "/metrics").text


def test_the_documents() -> None:
    own, _ = server()
    page = ask(own, "/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "max_completion_tokens" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert ask(own, "/openapi.json").json()["openapi"] == "3.2.0"
    assert ask(own, "/v1/models").json()["data"][0]["id"] == "scripted"
    assert ask(own, "/v1/models/scripted").json()["context_length"] == 1000
    used = {"kernels": "a script's", "mapped": 5, "files": 1, "own": 2, "why_not_mapped": None}
    used |= {"wired": None, "why_not_wired": "there is nothing to wire", "wiring_failed": False}
    used |= {"key_bits": None, "refused": []}
    told = ask(own, "/health").json()
    (loaded,) = told.pop("models")
    assert (loaded.pop("idle_seconds") >= 0, loaded.pop("used")) == (True, used)
    assert loaded == {
        "name": "scripted",
        "state": "loaded",
        "requests": 0,
        "pinned": True,
        "bytes": 7,
        "unloads_in_seconds": None,
    }
    assert told == {"status": "ok", "server": "mlxrun", "model": "scripted", "used": used}
    answers = ask(own, "/openapi.json").json()["paths"]["/health"]["get"]["responses"]
    schema = answers["200"]["content"]["application/json"]["schema"]["properties"]["used"]["anyOf"][0]
    assert set(schema["properties"]) == set(used)
    held = {"weights": 3, "cache": 2, "active": 6, "peak": 7, "free": 10, "total": 20, "prefix_cache": 0, "freed": 0}
    assert ask(own, "/memory").json() == held


def test_while_it_stops_nobody_new_is_answered_and_who_is_on_his_way_goes_on() -> None:
    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True))
        before = Client(own, CHAT)
        handle = await asked(engine)
        own.drain()
        after = Client(own, CHAT)
        await after.task
        assert (after.status, len(engine.handles)) == (503, 1)
        assert not own.traffic.empty.is_set()
        handle.post(Event(finish=Finish.STOP, usage=USAGE))
        await before.task
        assert (before.status, own.traffic.empty.is_set()) == (200, True)

    run(test)
    own, _ = server()
    own.drain()
    refused = chat(own)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert (ask(own, "/health").status_code, own.traffic.empty.is_set()) == (503, True)
