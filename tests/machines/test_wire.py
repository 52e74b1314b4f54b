"""Who does not know the secret is told nothing, and what was changed on its way is not believed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mlxrun.machines import wire
from mlxrun.machines.messages import Done, Ping
from mlxrun.machines.wire import Channel, LinkLost, accept, greet

SECRET = b"s" * 32


@contextmanager
def joined() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def aside(work: Callable[[], Channel]) -> Callable[[], Channel | LinkLost]:
    """Run meanwhile; what it came to."""
    found: list[Channel | LinkLost] = []

    def run() -> None:
        try:
            found.append(work())
        except LinkLost as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Channel | LinkLost:
        thread.join(30)
        return found[0]

    return result


@pytest.fixture(autouse=True)
def plain_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_nodelay", lambda link: link)  # a pair of sockets has no TCP to set that of


def pair(one: socket.socket, other: socket.socket) -> tuple[Channel, Channel]:
    first = aside(lambda: accept(one, SECRET))
    follower = greet(other, SECRET)
    found = first()
    assert isinstance(found, Channel)
    return found, follower


def test_both_hear_what_the_other_says() -> None:
    with joined() as (one, other):
        first, follower = pair(one, other)
        for number in range(3):
            first.send(Ping(number))
            assert follower.receive(5) == Ping(number)
            follower.send(Done(number))
            assert first.receive(5) == Done(number)


def test_another_secret_is_refused_by_both() -> None:
    with joined() as (one, other):
        first = aside(lambda: accept(one, SECRET))
        follower = aside(lambda: greet(other, b"t" * 32))
        assert "has another secret" in str(first())
        one.close()
        assert "another secret" in str(follower())


def test_a_first_machine_that_does_not_know_the_secret_is_not_believed() -> None:
    with joined() as (one, other):
        follower = aside(lambda: greet(other, SECRET))
        one.sendall(wire.MAGIC + bytes(wire.NONCE))
        assert len(wire._exactly(one, len(wire.MAGIC) + wire.NONCE + wire.CODE)) == 80
        one.sendall(bytes(wire.CODE))
        assert "has another secret" in str(follower())


def test_another_protocol_is_told() -> None:
    with joined() as (one, other):
        first = aside(lambda: accept(one, SECRET))
        other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".ljust(80))
        assert "speaks something else" in str(first())


@pytest.mark.parametrize("what", ["changed", "said again", "left out"])
def test_what_was_meddled_with_is_not_believed(what: str) -> None:
    with joined() as (one, other):
        first, follower = pair(one, other)
        first.send(Ping(1))
        said = wire._exactly(other, 36 + len(wire.pack(Ping(1))))
        first.send(Ping(2))
        later = wire._exactly(other, len(said))
        told = {"changed": said.replace(b"1", b"7"), "said again": said + said, "left out": later}[what]
        one.sendall(told)
        if what == "said again":
            assert follower.receive(5) == Ping(1)
        with pytest.raises(LinkLost, match="secret does not prove"):
            follower.receive(5)


def test_giants_silence_and_a_closed_connection_are_told() -> None:
    with joined() as (one, other):
        _, follower = pair(one, other)
        with pytest.raises(LinkLost, match=r"said nothing for 0\.05 s"):
            follower.receive(0.05)
        one.sendall(b"\xff" * 36)
        with pytest.raises(LinkLost, match="a message of 4294967295 bytes"):
            follower.receive(5)
        one.close()
        with pytest.raises(LinkLost, match="closed the connection"):
            follower.receive(5)
