"""Messages over TCP between two who know the same secret. Both prove it before a word is said, and every message
carries a code that depends on all before it, so nothing can be put in, left out or said again.

What is said is not hidden: it is numbers of sequences and rows, never text. Knows no machine and no model.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import threading
import time
from contextlib import suppress

from .messages import MOST, Malformed, Message, pack, unpack

MAGIC = b"mlxrun-machines1"
NONCE, CODE, LENGTH = 32, 32, 4
GREETING = 10.0  # seconds that a stranger has


class LinkLost(Exception):
    """The other one is gone, or is not who it should be: one sentence without its name."""


class Channel:
    """One who sends and one who receives may be different threads."""

    def __init__(self, link: socket.socket, key: bytes, ours: bytes, theirs: bytes) -> None:
        self._link, self._key = link, key
        self._ours, self._theirs = ours, theirs
        self._sent = self._received = 0
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        body = pack(message)
        if len(body) > MOST:
            raise LinkLost(f"a message of {len(body)} bytes is longer than {MOST}")
        with self._sending:
            code = _code(self._key, self._ours + self._sent.to_bytes(8, "big") + body)
            self._sent += 1
            try:
                self._link.sendall(len(body).to_bytes(LENGTH, "big") + code + body)
            except OSError as error:
                raise LinkLost(_why(error)) from None

    def receive(self, seconds: float | None) -> Message:
        """The next one, if it has come within so many seconds."""
        try:
            self._link.settimeout(seconds)
        except OSError as error:
            raise LinkLost(_why(error)) from None
        head = _exactly(self._link, LENGTH + CODE)
        length = int.from_bytes(head[:LENGTH], "big")
        if length > MOST:
            raise LinkLost(f"said a message of {length} bytes, and {MOST} are the most")
        body = _exactly(self._link, length)
        expected = _code(self._key, self._theirs + self._received.to_bytes(8, "big") + body)
        self._received += 1
        if not hmac.compare_digest(expected, head[LENGTH:]):
            raise LinkLost("said something that its secret does not prove")
        try:
            return unpack(body)
        except Malformed as error:
            raise LinkLost(f"said something that is not understood: {error}") from None

    def close(self) -> None:
        with suppress(OSError):  # it was closed from the other end
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()


def accept(link: socket.socket, secret: bytes) -> Channel:
    """The first machine's side of the greeting."""
    link.settimeout(GREETING)
    mine = secrets.token_bytes(NONCE)
    _send(link, MAGIC + mine)
    told = _exactly(link, len(MAGIC) + NONCE + CODE)
    if told[: len(MAGIC)] != MAGIC:
        raise LinkLost("speaks something else, or is of another version of mlxrun")
    nonces = mine + told[len(MAGIC) : len(MAGIC) + NONCE]
    if not hmac.compare_digest(_code(secret, b"follower" + nonces), told[len(MAGIC) + NONCE :]):
        raise LinkLost("has another secret")
    _send(link, _code(secret, b"first" + nonces))
    return _channel(link, secret, nonces, b"first", b"follower")


def greet(link: socket.socket, secret: bytes) -> Channel:
    """A follower's side."""
    link.settimeout(GREETING)
    told = _exactly(link, len(MAGIC) + NONCE)
    if told[: len(MAGIC)] != MAGIC:
        raise LinkLost("speaks something else, or is of another version of mlxrun")
    mine = secrets.token_bytes(NONCE)
    nonces = told[len(MAGIC) :] + mine
    _send(link, MAGIC + mine + _code(secret, b"follower" + nonces))
    try:
        proof = _exactly(link, CODE)
    except LinkLost:
        raise LinkLost("closed the connection: it has another secret, or its group is complete") from None
    if not hmac.compare_digest(_code(secret, b"first" + nonces), proof):
        raise LinkLost("has another secret")
    return _channel(link, secret, nonces, b"follower", b"first")


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """Tried again until then: the other end may be about to listen."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _nodelay(socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic())))
        except OSError as error:
            if time.monotonic() > deadline:
                raise LinkLost(f"did not answer within {seconds:g} s: {_why(error)}") from None
            time.sleep(0.1)


def _nodelay(link: socket.socket) -> socket.socket:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def _channel(link: socket.socket, secret: bytes, nonces: bytes, ours: bytes, theirs: bytes) -> Channel:
    return Channel(_nodelay(link), _code(secret, b"session" + nonces), ours, theirs)


def _code(key: bytes, told: bytes) -> bytes:
    return hmac.digest(key, told, hashlib.sha256)


def _send(link: socket.socket, told: bytes) -> None:
    try:
        link.sendall(told)
    except OSError as error:
        raise LinkLost(_why(error)) from None


def _exactly(link: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        try:
            piece = link.recv(min(count - len(found), 1 << 16))
        except TimeoutError:
            raise LinkLost(f"said nothing for {link.gettimeout():g} s") from None
        except OSError as error:
            raise LinkLost(_why(error)) from None
        if not piece:
            raise LinkLost("closed the connection")
        found += piece
    return bytes(found)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
