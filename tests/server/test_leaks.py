"""What a request leaves behind: nothing, whether it is answered, refused, or left in the middle."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from mlxrun.assistant import Answer
from mlxrun.core import Event, Finish, Memory
from mlxrun.engine.handle import Handle
from mlxrun.server import generate
from mlxrun.server.app import THREADS, Server, started_pool
from mlxrun.server.dialect import Job
from mlxrun.server.exchange import Exchange

from .process import SECONDS, Serving
from .scripted import ScriptedEngine, ask, server
from .test_exchange import CHAT, Client, asked, run, until

MEMORY = 48 << 20  # bytes that allocators may keep for themselves
LARGE = 1_200_000  # bytes of a prompt

Talk = Callable[[Server, ScriptedEngine], Awaitable[None]]


def alive() -> Counter[str]:
    of_a_request = (Handle, Answer, Exchange, Job)
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, of_a_request))


async def answered(own: Server, _: ScriptedEngine) -> None:
    await Client(own, CHAT).task
    await Client(own, {**CHAT, "stream": True, "n": 2}).task


async def refused(own: Server, _: ScriptedEngine) -> None:
    await Client(own, {**CHAT, "n": 0}).task
    await Client(own, {"messages": [{"role": "user", "content": "x" * 2000}]}).task


async def left(own: Server, engine: ScriptedEngine) -> None:
    engine.held = True
    client = Client(own, {**CHAT, "stream": True})
    handle = await asked(engine)
    handle.post(Event((72,)))
    await until(lambda: bool(client.sent))
    client.left.set()
    await client.task
    assert handle.cancelled
    handle.post(Event(finish=Finish.CANCELLED))


async def broken(own: Server, engine: ScriptedEngine) -> None:
    engine.held = True
    client = Client(own, {**CHAT, "stream": True})
    (await asked(engine)).post(Event(finish=Finish.FAILED, reason="It broke."))
    await client.task


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("talk", [answered, refused, left, broken])
def test_nothing_of_a_request_waits_for_the_garbage_collector(talk: Talk, no_collection: None) -> None:
    async def test() -> None:
        before = alive()
        for _ in range(3):
            own, engine = server()
            await talk(own, engine)
            engine.handles.clear()
        with suppress(TimeoutError):  # a thread of the pool may still be putting its job away
            await asyncio.wait_for(until(lambda: alive() - before == Counter()), 5)
        assert alive() - before == Counter()

    run(test)


def test_the_pool_has_all_its_threads_from_the_start() -> None:
    before = set(threading.enumerate())
    pool = started_pool(THREADS)
    new = set(threading.enumerate()) - before
    pool.shutdown()
    assert len(new) == THREADS
    assert not any(thread.is_alive() for thread in new)


def test_metrics_tell_what_memory_is_for() -> None:
    class Holding(ScriptedEngine):
        def memory(self) -> Memory:
            return Memory(weights=30, cache=20, active=60, peak=70, free=1, total=2, prefix_cache=15, freed=4)

    own, _ = server(Holding())
    lines = ask(own, "/metrics").text.splitlines()
    for of, count in {"weights": 30, "sequences": 5, "prefix_cache": 15, "freed": 4}.items():
        assert f'mlxrun_memory_bytes{{of="{of}"}} {count}.0' in lines
    assert any(line.startswith("mlxrun_threads ") for line in lines)


def test_metrics_tell_what_the_engine_counts() -> None:
    lines = ask(server()[0], "/metrics").text.splitlines()
    assert 'mlxrun_engine_total{of="passes"} 12.0' in lines
    assert 'mlxrun_engine_now{of="waiting"} 3.0' in lines


@pytest.mark.parametrize("size", [LARGE, 1000])
def test_the_heaps_are_trimmed_after_a_large_body_that_no_engine_sees(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed = threading.Event()
    monkeypatch.setattr(generate, "trim_heaps", trimmed.set)
    own, _ = server()
    assert ask(own, "/v1/completions", b'{"prompt": "' + b"a" * size).status_code == 400
    own._house.pool.shutdown()  # waits for its jobs
    assert trimmed.is_set() == (size == LARGE)


def settled(own: Serving, most: int) -> int:
    """Bytes that it holds once no more than `most` are, or after as long as we wait."""
    deadline = time.monotonic() + SECONDS
    while (held := own.resident()) > most and time.monotonic() < deadline:
        time.sleep(0.1)
    return held


def test_memory_comes_back_after_large_bodies(tiny: Serving) -> None:
    assert tiny.answers()
    tiny.idle()
    before, threads = tiny.resident(), tiny.metric("mlxrun_threads")
    body = json.dumps({"prompt": "words " * (LARGE // 6), "max_tokens": 1}).encode()
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda _: tiny.raw("/v1/completions", content=body).status_code, range(2)))
    assert told == [400] * 2
    assert settled(tiny, before + MEMORY) - before <= MEMORY
    assert tiny.metric("mlxrun_threads") == threads
