"""A server over a scripted engine behind a real socket, in this process: for what only bytes can show."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from mlxrun.server.app import Server
from mlxrun.server.run import Process, listen

SECONDS = 30  # for anything that is waited for
HOST = b"Host: localhost\r\n"
BODY = b'{"prompt": "a", "max_tokens": 2}'
COMPLETION = b"POST /v1/completions HTTP/1.1\r\n" + HOST


class InThread(Process):
    def capture_signals(self) -> Any:
        return nullcontext()


@dataclass
class Live:
    server: Server
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def say(self, sent: bytes) -> bytes:
        """All that comes back until the server closes."""
        with self.connect() as own:
            own.sendall(sent)
            return everything(own)

    def answers(self) -> bool:
        head = COMPLETION + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        return self.say(head + BODY).startswith(b"HTTP/1.1 200 ")


def everything(own: socket.socket) -> bytes:
    blocks = []
    while block := received(own):
        blocks.append(block)
    return b"".join(blocks)


def received(own: socket.socket) -> bytes:
    try:
        return own.recv(65536)
    except ConnectionResetError:
        return b""


@contextmanager
def live(server: Server) -> Iterator[Live]:
    listener = listen("127.0.0.1", 0)
    process = InThread(server, grace=0)
    thread = threading.Thread(target=lambda: asyncio.run(process.serve(sockets=[listener])))
    thread.start()
    try:
        yield Live(server, listener.getsockname()[1])
    finally:
        process.should_exit = True
        thread.join(SECONDS)
        server.close()
        listener.close()
    assert not thread.is_alive()
