"""One interface, two transports: a model in this process and the same one behind a server answer alike."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlxrun
from mlxrun.client import Client, ClientError, Finish, Reply, RequestError, find_server
from mlxrun.client.local import piece_of
from mlxrun.core import Refusal
from mlxrun.parts import Piece

from .process import Serving, serving

CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "So f"}, "finish_reason": null}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.fixture(scope="module")
def here(tiny_folder: Path) -> Iterator[Client]:
    with mlxrun.load(tiny_folder) as own:
        yield own


@pytest.fixture(scope="module")
def there(tiny_folder: Path) -> Iterator[Client]:
    with serving(str(tiny_folder)) as server, mlxrun.connect(server.url) as own:
        yield own


@contextmanager
def speaking(*answers: bytes) -> Iterator[str]:
    """A server that says the first of these to the first connection, and so on, and then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for said in answers:
                connection, _ = listener.accept()
                with connection:
                    read_request(connection)
                    connection.sendall(said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def read_request(connection: socket.socket) -> None:
    """All of it: a connection that is closed with bytes unread is torn down, and what was sent may be lost."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(1 << 16)
    head, _, body = request.partition(b"\r\n\r\n")
    told = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while told is not None and len(body) < int(told[1]):
        body += connection.recv(1 << 16)


def json_answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


MODELS = json_answer(b'{"data": [{"id": "m"}]}')
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
ASKED: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "drawn": {"temperature": 1.0, "seed": 5, "max_tokens": 12},
    "with probabilities": {**GREEDY, "logprobs": 2},
    "cut at the limit": {"temperature": 0, "max_tokens": 1},
    "narrow": {"temperature": 1, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "seed": 1, "max_tokens": 12},
    "without repeats": {
        "temperature": 1,
        "seed": 2,
        "max_tokens": 12,
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "dry_multiplier": 0.8,
        "mirostat_tau": 0.0,
        "min_tokens": 3,
    },
    "one of two": {**GREEDY, "choice": ["yes", "no"]},
    "a match": {"regex": "[a-c]{4}", "temperature": 1, "seed": 3},
    "JSON": {"json_schema": {"enum": [{"a": 1}, None]}, "temperature": 1, "seed": 3},
    "a grammar": {"grammar": 'start: "x"+ "y"', "temperature": 1, "seed": 3, "max_tokens": 40},
    "of a surprise": {"temperature": 1, "seed": 2, "max_tokens": 12, "mirostat_tau": 3.0, "mirostat_eta": 0.2},
}


def facts(reply: Reply | list[Reply]) -> Any:
    if isinstance(reply, list):
        return [facts(one) for one in reply]
    assert reply.usage is not None
    tokens = [(token.bytes, round(token.logprob, 3), len(token.top)) for token in reply.tokens]
    return reply.text, reply.finish, reply.usage.prompt_tokens, reply.usage.output_tokens, tokens


@pytest.mark.parametrize("options", ASKED.values(), ids=ASKED)
def test_the_same_answers(options: dict[str, Any], here: Client, there: Client) -> None:
    assert facts(here.chat("Tell me", **options)) == facts(there.chat("Tell me", **options))
    assert facts(here.complete("Once", **options)) == facts(there.complete("Once", **options))


def test_the_same_several_answers(here: Client, there: Client) -> None:
    options: Any = {"temperature": 1, "seed": 3, "max_tokens": 8}
    replies = here.chat_many("Tell me", 3, **options)
    assert facts(replies) == facts(there.chat_many("Tell me", 3, **options))
    assert len({told[0] for told in facts(replies)}) == 3
    assert facts(asyncio.run(there.achat_many("Tell me", 3, **options))) == facts(replies)
    for client in (here, there):
        for wrong in (0, 9, "x"):
            with pytest.raises(RequestError, match="count must be a whole number from 1 to 8"):
                client.chat_many("Tell me", wrong)  # type: ignore[arg-type]  # that is the question
    assert facts(here.complete_many("Once", 2, **options)) == facts(there.complete_many("Once", 2, **options))


def test_a_stop_string(here: Client, there: Client) -> None:
    text = here.complete("Once", **GREEDY).text
    options = {**GREEDY, "stop": text[5:7]}
    for client in (here, there):
        reply = client.complete("Once", **options)
        assert isinstance(reply, Reply)
        assert (reply.text, reply.finish) == (text[: text.index(text[5:7])], Finish.STOP)


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_stream_is_the_whole_in_pieces(where: str, request: pytest.FixtureRequest) -> None:
    client: Client = request.getfixturevalue(where)
    whole = client.chat("Tell me", **GREEDY)
    assert isinstance(whole, Reply)
    stream = client.stream("Tell me", **GREEDY)
    pieces = list(stream)
    assert "".join(piece.content for piece in pieces) == whole.text == stream.reply.text
    assert [piece.finish for piece in pieces if piece.finish] == [whole.finish] == [pieces[-1].finish]

    async def gather() -> str:
        async with client.astream("Tell me", **GREEDY) as running:
            return "".join([piece.content async for piece in running])

    assert asyncio.run(gather()) == whole.text


@pytest.mark.parametrize("where", ["here", "there"])
def test_who_cancels_keeps_what_came(where: str, request: pytest.FixtureRequest) -> None:
    client: Client = request.getfixturevalue(where)
    with client.stream("Tell me", temperature=0) as stream:
        for piece in stream:
            if piece.content:
                stream.cancel()
    assert stream.reply.finish is Finish.CANCELLED
    assert 0 < len(stream.reply.text) < 900
    assert isinstance(client.chat("Tell me", **GREEDY), Reply)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": -1}, "temperature must be a number from 0 to 100"),
        ({"top_q": 1}, "There is no option 'top_q'"),
        ({"n": 2}, "n is no option: chat_many"),
        ({"stop": [""]}, "stop"),
        ({"stop": 5}, "stop must be text or a list of texts, not 5"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number, not 1.5"),
        ({"max_tokens": True}, "max_tokens must be a whole number, not True"),
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1 on"),
        ({"top_k": 2.0}, "top_k must be a whole number, not 2.0"),
        ({"seed": "x"}, "seed must be a whole number, not 'x'"),
        ({"temperature": "hot"}, "temperature must be a number, not 'hot'"),
        ({"template": 5}, "template must be a dict"),
        ({"regex": 5}, "regex must be text, not 5"),
        ({"choice": "yes"}, "choice must be a list of texts, not 'yes'"),
        ({"json_schema": "x"}, "json_schema must be a dict, not 'x'"),
        ({"json_schema": {"a": b"x"}}, "json_schema must be plain JSON"),
        ({"json_schema": {"a": {}}, "regex": "a"}, "json_schema and regex both say what the answer must be"),
        ({"regex": "a(b"}, "unclosed group"),
    ],
)
def test_what_makes_no_sense_is_refused_alike(
    options: dict[str, Any], sentence: str, here: Client, there: Client
) -> None:
    for client in (here, there):
        with pytest.raises(RequestError, match=sentence):
            client.chat("Tell me", **options)


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "messages is empty"),
        (5, "messages must be text or a list of messages, not int"),
        (["hi"], "Each message must be an object with a role and content"),
        ([{"role": "user"}], "Each message must be an object with a role and content"),
        (
            [{"role": "poet", "content": "x"}],
            "role must be one of system, developer, user, assistant, tool, not 'poet'",
        ),
        ([{"role": "user", "content": None}], "content must be text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "content must be text"),
    ],
)
def test_what_is_no_conversation_is_refused_alike(messages: Any, sentence: str, here: Client, there: Client) -> None:
    for client in (here, there):
        with pytest.raises(RequestError, match=sentence):
            client.chat(messages, max_tokens=2)


def test_messages_and_numbers_that_are_written_otherwise(here: Client, there: Client) -> None:
    plain = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Tell\nme"}]
    parts = [{"type": "text", "text": "Tell"}, {"type": "text", "text": "me"}]
    other = ({"role": "developer", "content": "Be kind"}, {"role": "user", "content": parts})
    wanted = facts(here.chat(plain, temperature=1.0, seed=3, max_tokens=4))
    for client in (here, there):
        drawn = {"temperature": np.float32(1), "seed": np.int64(3), "max_tokens": np.int32(4)}
        assert facts(client.chat(other, **drawn)) == wanted


def test_a_closed_client_says_so(tiny_folder: Path, tiny: Serving) -> None:
    for client in (mlxrun.load(tiny_folder), mlxrun.connect(tiny.url)):
        client.close()
        with pytest.raises(mlxrun.RequestError, match="is closed"):
            client.chat("Tell me")
        assert repr(client).endswith(", closed)")


def test_a_model_that_is_busy_is_no_fault_of_who_asks() -> None:
    for refusal in (Refusal.BUSY, Refusal.QUEUE):
        busy = piece_of(Piece(finish=Finish.REFUSED, reason="The queue is full.", refusal=refusal))
        assert (busy.finish, busy.reason) == (Finish.FAILED, "The queue is full.")


def test_a_prompt_beyond_the_context_is_refused_alike(here: Client, there: Client) -> None:
    told = []
    for client in (here, there):
        with pytest.raises(RequestError, match="1024") as refused:
            client.complete("a" * 2000)
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_memory_and_models(here: Client, there: Client) -> None:
    for client in (here, there):
        memory = client.memory()
        assert memory is not None
        assert 0 < memory.weights <= memory.active
        assert 0 < memory.free < memory.total
        assert client.model in [model.name for model in client.models() if model.loaded]


def test_a_running_server_is_found(tiny: Serving) -> None:
    assert find_server([tiny.port]) == tiny.url
    assert mlxrun.connect(tiny.url + "/v1").model == mlxrun.connect(f"127.0.0.1:{tiny.port}").model == "tiny"
    with pytest.raises(RequestError, match="has no model 'other'; it has tiny"):
        mlxrun.connect(tiny.url, model="other")


def test_what_is_no_server_of_ours_is_not_joined() -> None:
    with speaking(json_answer(b'{"status": "ok"}')) as other:
        assert find_server([int(other.rpartition(":")[2])]) is None
    with speaking(b"SSH-2.0-x\r\n") as other:
        assert find_server([int(other.rpartition(":")[2])]) is None


def test_a_key(tiny_folder: Path) -> None:
    with serving(str(tiny_folder), "--key", "secret") as server:
        assert find_server([server.port]) == server.url
        with pytest.raises(ClientError, match="needs its key"):
            mlxrun.connect(server.url)
        client = mlxrun.connect(server.url, "secret")
        assert client.memory() is not None
        assert isinstance(client.chat("Hi", **GREEDY), Reply)


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert find_server([port]) is None
    with pytest.raises(ClientError, match=f"No server answers at http://127.0.0.1:{port}"):
        mlxrun.connect(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["ftp://x", "http://", "http://x:99999", "http://x?y"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(RequestError, match="no address of a server"):
        mlxrun.connect(address)


BROKEN = {
    "hangs up": (HEAD + CHUNK, "ended the answer too early"),
    "sends no JSON": (HEAD + CHUNK + b"data: {oops\n\n", "no JSON"),
    "says an error": (HEAD + CHUNK + b'data: {"error": {"message": "It broke."}}\n\n', "It broke."),
    "sends other things": (HEAD + CHUNK + b'data: {"choices": [1]}\n\n', "does not speak as a server"),
}


@pytest.mark.parametrize(("said", "reason"), BROKEN.values(), ids=BROKEN)
def test_the_text_so_far_stays_when_a_server_breaks(said: bytes, reason: str) -> None:
    with speaking(MODELS, said) as url, pytest.raises(ClientError, match=reason) as broken:
        mlxrun.connect(url).chat("Hi")
    assert broken.value.reply is not None
    assert (broken.value.reply.text, broken.value.reply.finish) == ("So f", Finish.FAILED)


def test_a_server_that_is_killed_while_it_answers(tiny_folder: Path) -> None:
    with serving(str(tiny_folder)) as server:
        stream = mlxrun.connect(server.url).stream("Tell me", temperature=0)
        pieces = []
        for piece in stream:
            if not pieces:
                server.process.kill()
            pieces.append(piece)
    assert stream.reply.finish is Finish.FAILED
    assert stream.reply.text
    assert str(server.url) in str(stream.reply.reason)
