"""The endpoint as a process: a socket that is ours, uvicorn on it, and an orderly end.

After SIGTERM or SIGINT who asks is told that the server stops; what is on its way has `grace` seconds to finish and is
then cancelled, each answer with an error that says so. A second signal does not wait.
"""

from __future__ import annotations

import asyncio
import errno
import re
import signal
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address

import uvicorn

from ..core import RequestError
from .app import Server
from .connection import KEEP_ALIVE, Connection
from .guard import APPS

GRACE = 10.0  # seconds
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d+)?")
HOST = re.compile(r"[A-Za-z0-9_.-]+")
LAST_WORDS = 2.0  # seconds that cancelled answers have to say so
BACKLOG = 256
SEND_BUFFER = 256 << 10  # bytes that the system keeps for a reader that is slow; by itself it takes megabytes for each


def check_reach(host: str, key: str | None) -> None:
    """Beyond this machine only with a key."""
    if key is not None and not (key.split() and key.isascii() and key.isprintable()):
        raise RequestError("The key must be printable ASCII and not empty.")
    if key is None and not is_loopback(host):
        raise RequestError(f"On {host} other machines could reach this server; give them a key with --key first.")


def check_names(hosts: Iterable[str], origins: Iterable[str]) -> None:
    """One that no browser would ever send would let nobody in, and nobody would know why."""
    for host in hosts:
        if not HOST.fullmatch(host):
            raise RequestError(f"--allow-host wants a name alone, such as box.lan, not {host!r}.")
    for origin in origins:
        if origin != APPS and not ORIGIN.fullmatch(origin):
            raise RequestError(
                f"--allow-origin wants what browsers send, such as https://chat.example or http://localhost:3000, "
                f"without a path and in small letters, or {APPS} for programs that are pages inside (Tauri, "
                f"Obsidian, Visual Studio Code), not {origin!r}."
            )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_port(port: int) -> None:
    if not 0 <= port <= 65535:
        raise RequestError(f"--port must be a number from 0 to 65535, not {port}.")


def listen(host: str, port: int) -> socket.socket:
    """Ours from now on: clients that come while the model loads wait for it."""
    check_port(port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # its connections inherit it
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise RequestError(_no_socket(host, port, error)) from error
    return listener


def _no_socket(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use; choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than this user has; choose one from 1024 on with --port."
    return f"{host} port {port} cannot be listened on: {error.strerror or error}."


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Process(uvicorn.Server):
    """uvicorn would end the process by the very signal it was stopped with; we end with exit code 0."""

    def __init__(self, server: Server, grace: float) -> None:
        config = uvicorn.Config(
            server.app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_level="error",  # what clients do wrong is told to them
            timeout_keep_alive=KEEP_ALIVE,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(grace + LAST_WORDS) + 1,
        )
        super().__init__(config)
        self._server, self._grace = server, grace

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop, numbers = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)
        ending: list[asyncio.Task[None]] = []

        def stop() -> None:
            if ending:
                self._server.stop()
            else:
                ending.append(loop.create_task(self._end()))

        for number in numbers:
            loop.add_signal_handler(number, stop)
        yield
        for number in numbers:
            loop.remove_signal_handler(number)

    async def _end(self) -> None:
        self._server.drain()
        try:
            async with asyncio.timeout(self._grace):
                await self._server.traffic.empty.wait()
        except TimeoutError:
            self._server.stop()
        self.should_exit = True


def serve(server: Server, listeners: Sequence[socket.socket], grace: float = GRACE) -> None:
    """Until a signal ends it."""
    try:
        asyncio.run(Process(server, grace).serve(sockets=list(listeners)))
    finally:
        server.close()
        for listener in listeners:
            listener.close()


def names_of(host: str) -> tuple[str, ...]:
    """Under which names clients may know a server that listens there; addresses go without saying."""
    if is_loopback(host):
        return ()
    own = socket.gethostname().lower()
    short = own.partition(".")[0]
    return host.lower(), own, short, f"{short}.local"
