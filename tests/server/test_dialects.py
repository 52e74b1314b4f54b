"""A dialect is a file and a line in a table: one that is made up here speaks through a real server in its own words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from mlxrun.core import Event, Finish, Sampling
from mlxrun.parts import Arguments, CallBegun, Media, Piece, Said, Thought
from mlxrun.server.app import Server
from mlxrun.server.check import check
from mlxrun.server.dialect import Body, Encoder, Job, Json, Operation, Voice, WantedModel
from mlxrun.server.dialects import DIALECTS
from mlxrun.server.dialects.openai import Framing
from mlxrun.server.dialects.openai_chat import ChatEncoder
from mlxrun.server.dialects.openai_completions import CompletionEncoder
from mlxrun.server.errors import ApiError
from mlxrun.server.fields import COUNT, TEXT, fixed, flag, record, ref, text
from mlxrun.server.generate import written
from mlxrun.server.openapi import document
from mlxrun.server.run import Process, address_of, listen
from mlxrun.server.sse import frame

from .scripted import ScriptedEngine, ask, server
from .test_exchange import USAGE, asked, until

TROUBLE = record(trouble=TEXT)


class TaleEncoder:
    media_type = "text/event-stream"

    def begin(self) -> bytes:
        return frame({}, "tale.begun")

    def piece(self, index: int, piece: Piece) -> bytes:
        return b"".join(frame({"text": part.text}, f"tale.{type(part).__name__.lower()}") for part in told(piece))

    def idle(self) -> bytes:
        return frame({}, "tale.waiting")

    def end(self, lasts: Sequence[Piece]) -> bytes:
        return frame(self.whole(lasts), "tale.ended")

    def failed(self, error: ApiError) -> bytes:
        return frame({"trouble": error.message}, "tale.trouble")

    def whole(self, pieces: Sequence[Piece]) -> Json:
        (piece,) = pieces
        assert piece.usage is not None
        return {"tale": piece.content, "until": piece.stop, "words": piece.usage.output_tokens}


def told(piece: Piece) -> list[Said | Thought]:
    return [part for part in piece.parts if isinstance(part, Said | Thought)]


class Tales:
    path = "/tales"
    operation = Operation(
        name="tale",
        summary="Tell a tale",
        request=fixed("about", about=text("What it is about."), until=text(), stream=flag()),
        returns="The tale.",
        content={"application/json": {"schema": ref("Tale")}},
        schemas={"Tale": record(tale=TEXT, words=COUNT)},
        error=TROUBLE,
    )

    def check(self, body: Body) -> WantedModel:
        check(body, self.operation.request)
        return WantedModel()

    def read(self, body: Body, voice: Voice) -> Job:
        from mlxrun.assistant import Wish

        wish = Wish(sampling=voice.sampling, stop=(body["until"],) if "until" in body else ())
        messages = [{"role": "user", "content": body["about"]}]
        return Job(lambda: [voice.assistant.chat(messages, wish)], 1, TaleEncoder(), bool(body.get("stream")))

    def error(self, error: ApiError) -> Json:
        return {"trouble": error.message}


def telling(engine: ScriptedEngine | None = None, **config: Any) -> tuple[Server, ScriptedEngine]:
    return server(engine, dialects=(*DIALECTS, Tales()), **config)


@asynccontextmanager
async def running(own: Server) -> AsyncIterator[httpx.AsyncClient]:
    """The server on a socket, as `mlxrun serve` runs it."""
    listener = listen("127.0.0.1", 0)
    process = Process(own, grace=0)
    task = asyncio.create_task(process.serve(sockets=[listener]))
    await until(lambda: process.started)
    try:
        async with httpx.AsyncClient(base_url=address_of(listener), timeout=30) as client:
            yield client
    finally:
        process.should_exit = True
        await task
        own.close()


def run(own: Server, test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with running(own) as client:
            await test(client)

    asyncio.run(asyncio.wait_for(inside(), 30))


def events(told: str) -> list[tuple[str, Json]]:
    *frames, rest = told.split("\n\n")
    assert rest == ""
    pairs = [frame.removeprefix("event: ").split("\ndata: ") for frame in frames]
    return [(name, json.loads(data)) for name, data in pairs]


def test_it_tells_whole_and_in_pieces_until_a_stop() -> None:
    own, _ = telling(ScriptedEngine("<think>Hm.</think>Once upon a time. The end"))

    async def test(client: httpx.AsyncClient) -> None:
        asked = {"about": "foxes", "until": " The"}
        whole = await client.post("/tales", json=asked)
        assert whole.json()["tale"] == "Once upon a time."
        assert whole.json()["until"] == " The"
        streamed = await client.post("/tales", json={**asked, "stream": True})
        assert streamed.headers["content-type"] == "text/event-stream"
        (first, _), *middle, (last, ended) = events(streamed.text)
        assert (first, last, ended["until"]) == ("tale.begun", "tale.ended", " The")
        assert {name for name, _ in middle} == {"tale.thought", "tale.said"}
        assert "".join(data["text"] for name, data in middle if name == "tale.said") == "Once upon a time."
        assert "[DONE]" not in streamed.text
        chat = await client.post("/v1/completions", json={"prompt": "a", "stream": True})
        assert chat.text.endswith("data: [DONE]\n\n")  # its neighbours speak as ever

    run(own, test)


def test_its_errors_are_in_its_own_words() -> None:
    own, engine = telling(ScriptedEngine(held=True), key="secret")
    key = {"authorization": "Bearer secret"}

    async def test(client: httpx.AsyncClient) -> None:
        bare = await client.post("/tales", json={"about": "a"})
        assert (bare.status_code, list(bare.json())) == (401, ["trouble"])
        bad = await client.post("/tales", json={"about": 5}, headers=key)
        assert (bad.status_code, bad.json()) == (400, {"trouble": "about must be text, not 5."})
        wrong = await client.get("/tales", headers=key)
        assert (wrong.status_code, wrong.json()) == (405, {"trouble": "GET is not allowed at '/tales'."})
        assert "error" in (await client.get("/nothing", headers=key)).json()
        for stream, at_once in ((False, True), (True, True), (True, False)):
            request = client.build_request("POST", "/tales", json={"about": "a", "stream": stream}, headers=key)
            sending = asyncio.create_task(client.send(request, stream=True))
            handle = await asked(engine, len(engine.handles) + 1)
            if not at_once:
                handle.post(Event((72,)))
                await sending  # the status is sent
            handle.post(Event(finish=Finish.FAILED, reason="It broke."))
            response = await sending
            body = (await response.aread()).decode()
            if at_once:
                assert (response.status_code, json.loads(body)) == (500, {"trouble": "It broke."})
            else:
                assert events(body)[-1] == ("tale.trouble", {"trouble": "It broke."})

    run(own, test)


def test_who_leaves_cancels_it() -> None:
    own, engine = telling(ScriptedEngine(held=True))

    async def test(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/tales", json={"about": "a", "stream": True}) as response:
            pass_on = asyncio.create_task(anext(response.aiter_bytes()))
            await pass_on
        await until(lambda: engine.handles[0].cancelled)

    async def inside() -> None:
        async with running(own) as client:
            testing = asyncio.create_task(test(client))
            (await asked(engine)).post(Event((72,)))
            await testing
        assert own.traffic.reserve(own.traffic.limit)  # its place is free

    asyncio.run(asyncio.wait_for(inside(), 30))


def test_the_documents_know_it() -> None:
    own, _ = telling()
    told = ask(own, "/openapi.json").json()
    operation = told["paths"]["/tales"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["required"] == ["about"]
    assert operation["responses"]["200"]["content"] == {"application/json": {"schema": ref("Tale")}}
    assert operation["responses"]["4XX"]["content"]["application/json"]["schema"] == TROUBLE
    assert told["components"]["schemas"]["Tale"]["required"] == ["tale", "words"]
    assert "What it is about." in ask(own, "/docs").text


def test_a_name_in_the_document_means_one_thing() -> None:
    class Other(Tales):
        path = "/others"
        operation = Operation("other", "Other", fixed(), "It.", {}, {"Tale": TEXT}, TROUBLE)

    with pytest.raises(ValueError, match="/others describes another Tale"):
        document((Tales(), Other()), (), Sampling())


FRAMING = Framing("m", stream=True, include_usage=False, per_prompt=1)


def chunks(told: bytes) -> list[Any]:
    return [json.loads(line[6:])["choices"][0] for line in told.decode().split("\n\n")[:-1]]


def test_a_chat_keeps_the_order_of_its_parts() -> None:
    encoder = ChatEncoder(FRAMING, logprobs=False)
    parts = (Thought("a"), Said("b"), Thought("c"), Said("d"))
    _, first, second = chunks(encoder.piece(0, Piece(parts, finish=Finish.STOP)))
    assert (first["delta"], first["finish_reason"]) == ({"reasoning_content": "a", "content": "b"}, None)
    assert (second["delta"], second["finish_reason"]) == ({"reasoning_content": "c", "content": "d"}, "stop")
    (told,) = encoder.whole([Piece(parts, finish=Finish.STOP, usage=USAGE)])["choices"]
    assert (told["message"]["reasoning_content"], told["message"]["content"]) == ("ac", "bd")


@pytest.mark.parametrize(
    ("part", "named"),
    [(CallBegun(0, "c1", "weather"), "'weather'"), (Arguments(0, "{"), "arguments"), (Media("image/png", b""), "png")],
)
def test_what_a_dialect_has_no_place_for_is_refused_by_its_name(part: Any, named: str) -> None:
    encoders: list[Encoder] = [CompletionEncoder(FRAMING, False, 1)]
    if isinstance(part, Media):
        encoders.append(ChatEncoder(FRAMING, False))
    for encoder in encoders:
        frames, error = written(encoder, [(0, Piece((Said("kept"),))), (0, Piece((part,)))])
        assert b"kept" in frames
        assert error is not None
        assert named in error.message
        with pytest.raises(ApiError, match=named):
            encoder.whole([Piece((part,), finish=Finish.STOP, usage=USAGE)])
