"""Bytes that no client sends by mistake, and clients that take their time: each is answered or closed, nobody hurt."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

import pytest

from mlxrun.core import Event
from mlxrun.server import body, connection, run

from .live import BODY, COMPLETION, HOST, Live, everything, live, received
from .scripted import ScriptedEngine, server

SHORT = 0.2  # seconds, in place of those that a client has
CHUNKED = COMPLETION + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def own() -> Iterator[Live]:
    with live(server()[0]) as running:
        yield running


def sized(length: bytes, *more: bytes, content: bytes = BODY) -> bytes:
    return COMPLETION + b"Content-Length: " + length + b"\r\n" + b"".join(more) + b"\r\n" + content


# what is sent -> the statuses that may come back, each with the end of the connection; 0: nothing is said
BYTES: dict[str, tuple[bytes, set[int]]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00" * 20 + b"\r\n\r\n", {400}),
    "a line without end": (b"G" * 40_000, {431}),
    "HTTP 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {403}),
    "no Host": (b"GET /health HTTP/1.1\r\n\r\n", {400}),
    "two Hosts": (b"GET /health HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n", {400}),
    "a NUL in a header": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", {400}),
    "a space before the colon": (b"GET /health HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", {400}),
    "a path of bytes": (b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "negative length": (sized(b"-5"), {400}),
    "a length of letters": (sized(b"0x20"), {400}),
    "an endless length": (sized(b"9" * 40), {400, 413}),
    "two lengths": (sized(b"5", b"Content-Length: 6\r\n"), {400}),
    "length and chunks": (sized(b"5", b"Transfer-Encoding: chunked\r\n", content=b"0\r\n\r\n"), {400}),
    "chunks twice": (COMPLETION + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", {501}),
    "another encoding": (COMPLETION + b"Transfer-Encoding: gzip\r\n\r\n", {501}),
    "a negative chunk": (CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n", {400}),
    "a chunk of letters": (CHUNKED + b"xyz\r\n", {400}),
    "a chunk that is longer": (CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n", {400}),
    "large headers at once": (
        COMPLETION + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 900) for i in range(50)) + b"\r\n",
        {431},
    ),
    "one large header": (COMPLETION + b"X: " + b"a" * 100_000 + b"\r\n\r\n", {431}),
    "a body beyond the limit": (sized(b"99999999"), {413}),
    "a body in gzip": (sized(b"%d" % len(BODY), b"Content-Encoding: gzip\r\n"), {415}),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_request(own: Live, name: str) -> None:
    sent, statuses = BYTES[name]
    closing = sent if b"Connection" in sent else sent.replace(HOST, HOST + b"Connection: close\r\n", 1)
    said = own.say(closing)
    assert int(said.split(b" ", 2)[1]) in statuses, said[:300]
    assert b"Traceback" not in said
    assert own.answers()


def test_a_line_that_goes_on_in_the_next_is_joined(own: Live) -> None:
    """RFC 9112 lets a server refuse it or put a space in place of the fold, and h11 does that."""
    folded = b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\nConnection: close\r\n\r\n"
    assert own.say(folded).startswith(b"HTTP/1.1 200 ")


def test_two_requests_at_once_are_answered_in_order(own: Live) -> None:
    first = sized(b"%d" % len(BODY))
    second = b"GET /none HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    said = own.say(first + second)
    assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"200", b"404"]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    for name in ("HEADER_SECONDS", "BODY_SECONDS", "STALLED"):
        monkeypatch.setattr(connection, name, SHORT)
    monkeypatch.setattr(body, "SECONDS", SHORT)
    monkeypatch.setattr(run, "SEND_BUFFER", 4096)
    with live(server(ScriptedEngine(held=True))[0]) as running:
        yield running


def test_a_connection_that_says_nothing_is_closed(hurried: Live) -> None:
    with hurried.connect() as silent:
        assert everything(silent) == b""


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"])
def test_headers_that_do_not_come(hurried: Live, before: bytes) -> None:
    """Of the first request and of one that follows another."""
    said = hurried.say(before + b"POST /v1/completions HT")
    *_, last = said.split(b"HTTP/1.1 ")
    assert last.startswith(b"408 ")
    assert b"The headers did not arrive" in last
    assert b"connection: close" in last.lower()


def test_a_body_that_does_not_come(hurried: Live) -> None:
    said = hurried.say(sized(b"100", content=b"{"))
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in said.lower()


def test_a_body_that_nobody_asked_for_does_not_come(hurried: Live) -> None:
    said = hurried.say(b"GET /health HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 200 ")


def test_a_reader_that_reads_nothing_is_let_go(hurried: Live) -> None:
    engine_asks = hurried.server.metrics.registry.get_sample_value
    engine = hurried.server.models.voices()[0].assistant.engine
    asked = b'{"prompt": "a", "stream": true}'
    with hurried.connect() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.sendall(COMPLETION + b"Content-Length: %d\r\n\r\n" % len(asked) + asked)
        while not engine.handles:  # type: ignore[attr-defined]  # scripted
            time.sleep(0.01)
        handle = engine.handles[0]  # type: ignore[attr-defined]  # scripted
        handle.post(Event((97,) * 200_000))  # more than sockets hold
        while not handle.cancelled:
            time.sleep(0.01)
        while received(stalled):
            pass
    assert engine_asks("mlxrun_answers_running") == 0
