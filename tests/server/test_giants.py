"""Prompts that no context holds: refused early, in every dialect's words, and in nobody's way."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mlxrun.core import Event, Finish
from mlxrun.server import app
from mlxrun.server.generate import LARGE

from .scripted import ScriptedEngine, ask, chat, complete, server
from .test_exchange import CHAT, USAGE, Client, asked, run, until

GIANT = "words " * 300_000
MESSAGES = [{"role": "user", "content": GIANT}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": GIANT},
    "/v1/responses": {"input": GIANT},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 5},
}


@pytest.mark.parametrize("path", ASKED)
def test_a_giant_is_refused_before_it_is_tokenized(path: str) -> None:
    own, engine = server()
    assistant = own.models.voices()[0].assistant
    seen: list[int] = []
    encode = assistant.tokenizer.encode
    assistant.tokenizer.encode = lambda text, **more: (seen.append(len(text)), encode(text, **more))[1]  # type: ignore[method-assign]  # watched
    refused = ask(own, path, ASKED[path])
    assert (refused.status_code, engine.handles, sum(seen) < len(GIANT) / 10) == (400, [], True)
    told = refused.text
    assert "context_length_exceeded" in told or "prompt is too long: " in told
    assert len(told) < 1000


def test_a_giant_holds_up_nobody_and_ends_when_its_client_leaves() -> None:
    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True, context=10_000_000))
        tokenizer = own.models.voices()[0].assistant.tokenizer
        go, encode = threading.Event(), tokenizer.encode

        def slow(text: str, *, special: bool) -> list[int]:
            if len(text) > LARGE:
                go.wait(30)
            return encode(text, special=special)

        tokenizer.encode = slow  # type: ignore[method-assign]  # a giant takes long
        giants = [Client(own, {"messages": MESSAGES}) for _ in range(2 * app.THREADS)]
        small = Client(own, CHAT)
        (await asked(engine)).post(Event(finish=Finish.STOP, usage=USAGE))
        await small.task
        assert small.status == 200
        for giant in giants:
            giant.left.set()
            await giant.task  # at once, though its text is still being read
        go.set()
        own._house.large.shutdown()
        assert len(engine.handles) == 1  # none of them reached the engine
        assert own.traffic.reserve(own.traffic.limit)

    run(test)


def test_bodies_that_are_too_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        own, _ = server(ScriptedEngine(held=True))
        room = own.bodies
        room.most = 150
        monkeypatch.setattr(own._house.pool, "submit", lambda *_: asyncio.Future())  # nothing is parsed
        first = Client(own, CHAT)
        await until(lambda: room.held > 0)
        second = Client(own, {**CHAT, "user": "x" * 100})
        await second.task
        assert second.status == 503
        first.left.set()
        await first.task
        assert room.held == 0

    run(test)


def test_what_was_asked_is_not_counted_while_it_is_answered() -> None:
    async def test() -> None:
        own, engine = server(ScriptedEngine(held=True))
        client = Client(own, CHAT)
        handle = await asked(engine)
        await until(lambda: own.bodies.held == 0)
        handle.post(Event(finish=Finish.STOP, usage=USAGE))
        await client.task
        assert client.status == 200

    run(test)


def test_a_prompt_of_ids_that_is_too_long() -> None:
    refused = complete(server()[0], [1] * 100_000)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_right_answers_afterwards() -> None:
    own, _ = server()
    for _ in range(3):
        assert chat(own, GIANT).status_code == 400
    assert chat(own).json()["choices"][0]["message"]["content"] == "Hello"
