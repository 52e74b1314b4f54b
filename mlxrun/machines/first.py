"""The group as its first machine sees it: who has come, who has which layers, and whether all of them still live.

A machine that closes its connection, says nothing for `silence` seconds, or does not end a pass within `step` seconds
is lost, and the whole group with it: who watches is told once, in one sentence. Nothing is mended here; a supervisor
starts all processes anew.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from ..spec import ModelError
from .messages import Done, End, GaveUp, Hello, Message, Ping, Pong, Start, Step
from .wire import Channel, LinkLost, accept

GATHER = 60.0  # seconds that all others have to come
BEAT = 1.0  # seconds between two signs of life
ANEW = "All machines begin anew; ask again in a moment."  # what is told to who asked for an answer
ALIVE, READY = b".", b"R"  # what the supervisor is told
M = TypeVar("M")


class GroupLost(ModelError):
    """A machine is lost, and nothing is computed any more until all have begun anew."""


@dataclass(eq=False)
class Follower:
    """Of the first machine's others."""

    hello: Hello
    channel: Channel
    name: str  # as a person wrote it
    said: queue.SimpleQueue[Message] = field(default_factory=queue.SimpleQueue)
    done: int = -1  # the last pass that it has computed

    def __str__(self) -> str:
        return f"{self.name} (machine {self.hello.rank})"


class MachineGroup:
    def __init__(self, start: Start, followers: Sequence[Follower]) -> None:
        """Use `gather`."""
        self.start, self.followers = start, tuple(followers)
        self.fault: str | None = None
        self._watch: Callable[[str], None] | None = None
        self._lock = threading.Lock()
        self._lost = threading.Event()
        self._closed = threading.Event()
        self._passes: dict[int, float] = {}  # that are not computed everywhere, and when they were begun
        for follower in self.followers:
            threading.Thread(target=self._listen, args=(follower,), name="mlxrun-machine", daemon=True).start()
        threading.Thread(target=self._look, name="mlxrun-machines", daemon=True).start()

    def watch(self, told: Callable[[str], None]) -> None:
        """Is told why the group is lost, once, on a thread of the group's."""
        with self._lock:
            self._watch = told
            fault = self.fault
        if fault is not None:
            told(fault)

    def lose(self, reason: str) -> None:
        with self._lock:
            if self.fault is not None or self._closed.is_set():
                return
            self.fault, told = reason, self._watch
        self._lost.set()
        if told is not None:
            told(reason)

    def lost(self, error: Exception) -> str:
        """A pass here raised that: most often because somebody is gone, which is known in a moment."""
        if not self._lost.wait(BEAT):
            self.lose(f"A pass broke on the first machine: {type(error).__name__}: {error}")
        return f"{self.fault} {ANEW}" if self.fault else "The group of machines is being closed."

    def tell(self, follower: Follower, message: Message) -> None:
        try:
            follower.channel.send(message)
        except LinkLost as error:
            self.lose(f"{follower} {error}.")
            raise GroupLost(self.fault or str(error)) from None

    def step(self, step: Step) -> None:
        """All others are to do this next."""
        if self.fault is not None:
            raise GroupLost(self.fault)
        if step.parts:
            self._passes[step.number] = time.monotonic()
        for follower in self.followers:
            self.tell(follower, step)

    def hear(self, follower: Follower, kind: type[M]) -> M:
        """What it says next, however long that takes while it lives."""
        while True:
            if self.fault is not None:
                raise GroupLost(self.fault)
            with suppress(queue.Empty):
                message = follower.said.get(timeout=0.1)
                if not isinstance(message, kind):
                    self.lose(f"{follower} said a {type(message).__name__} where a {kind.__name__} was due.")
                    continue
                return message

    def ready(self) -> None:
        """All is loaded: from now on the supervisor begins anew whatever breaks."""
        self._beat(READY)

    def close(self) -> None:
        self._closed.set()
        for follower in self.followers:
            with suppress(LinkLost):
                follower.channel.send(End())
            follower.channel.close()

    def _listen(self, follower: Follower) -> None:
        try:
            while True:
                match message := follower.channel.receive(self.start.silence):
                    case Pong():
                        pass
                    case Done(number):
                        follower.done = number
                    case GaveUp(reason):
                        raise LinkLost(f"gave up: {reason.rstrip('.')}")
                    case _:
                        follower.said.put(message)
        except LinkLost as error:
            self.lose(f"{follower} {error}.")

    def _look(self) -> None:
        """Signs of life, and passes that take too long."""
        number = 0
        while not self._closed.wait(BEAT):
            self._beat(ALIVE)
            if self.fault is not None:
                continue
            for follower in self.followers:
                with suppress(GroupLost):
                    self.tell(follower, Ping(number))
            number += 1
            self._look_at_passes()

    def _beat(self, sign: bytes) -> None:
        if self.start.beat >= 0:
            with suppress(OSError):  # the supervisor is gone, which standard input tells
                os.write(self.start.beat, sign)

    def _look_at_passes(self) -> None:
        done = min(follower.done for follower in self.followers)
        for number, began in list(self._passes.items()):
            if number <= done:
                self._passes.pop(number, None)
            elif time.monotonic() - began > self.start.step:
                slow = next(follower for follower in self.followers if follower.done < number)
                self.lose(f"{slow} did not end a pass within {self.start.step:g} s.")
                return


def listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family_of(host), backlog=64)
    except OSError as error:
        raise ModelError(
            f"The first machine of the file must be this one: {address} cannot be listened on here "
            f"({(error.strerror or str(error)).lower()})."
        ) from None


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def gather(
    start: Start, own: Hello, seconds: float = GATHER, aside: Callable[[str], None] = lambda line: None
) -> MachineGroup:
    """All others, once each has proved that it knows the secret and is what it must be. `own`: what this machine would
    say of itself; `aside`: is told who was turned away."""
    found: dict[int, Follower] = {}
    deadline = time.monotonic() + seconds
    with listen(start.control) as server:
        while len(found) < len(start.names) - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                link, address = server.accept()
            except TimeoutError:
                missing = [start.names[rank] for rank in range(1, len(start.names)) if rank not in found]
                raise ModelError(
                    f"{' and '.join(missing)} did not answer within {seconds:g} s: is it on, and can it reach "
                    f"{start.control}?"
                ) from None
            try:
                channel = accept(link, bytes.fromhex(start.secret))
                hello = channel.receive(start.silence)
            except LinkLost as error:
                link.close()
                aside(f"Somebody at {address[0]} who would be a machine of this group was turned away: it {error}.")
                continue
            why = why_unfit(hello, own, start, found)
            if why is not None:
                with suppress(LinkLost):
                    channel.send(GaveUp(why))
                raise ModelError(why)
            assert isinstance(hello, Hello)
            found[hello.rank] = Follower(hello, channel, start.names[hello.rank])
    return MachineGroup(start, [found[rank] for rank in sorted(found)])


def why_unfit(hello: Message, own: Hello, start: Start, found: dict[int, Follower]) -> str | None:
    """One sentence; None: it may join."""
    if not isinstance(hello, Hello):
        return f"A machine began with a {type(hello).__name__} in place of saying what it is."
    if not 1 <= hello.rank < len(start.names):
        return f"A machine says that it is number {hello.rank} of a group of {len(start.names)}."
    name = f"{start.names[hello.rank]} (machine {hello.rank})"
    if hello.rank in found:
        return f"Two machines say that they are {name}."
    if (hello.protocol, hello.version, hello.mlx) != (own.protocol, own.version, own.mlx):
        return (
            f"{name} has mlxrun {hello.version} with MLX {hello.mlx}, and this machine {own.version} with {own.mlx}: "
            "install the same on all."
        )
    if hello.model != own.model:
        return f"{name} has another model at that place, or other files of it: bring the same to all machines."
    if hello.device != own.device:
        return f"{name} computes on {hello.device} and this machine on {own.device}: answers would hang on the cut."
    return None
