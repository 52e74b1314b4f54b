"""Where models come from: a running server is joined, else a model is loaded into this process.

Every function may block for as long as loading takes: call them on a thread. Nothing of the client is
imported before it is used, so that the screen is painted first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlxrun.client import Client, ModelDetails

STARTER = "smollm2"
KEY = "MLXRUN_KEY"  # in the environment: what a server asks for that was started with it
Progress = Callable[[int, int], None]  # bytes done, bytes in all
BROKEN = (ValueError, RuntimeError, OSError)  # what a client raises says itself in one sentence


def unwatched(done: int, total: int) -> None:
    """Progress that nobody looks at."""


class Phase(StrEnum):
    OPENING = "opening"
    READY = "ready"
    RESTING = "resting"  # it was let go, or its load was stopped: the next message has it come again
    FAILED = "failed"  # there is no model
    LOST = "lost"  # the server went away while it answered


class Joining(StrEnum):
    """When a server that runs on this machine is taken in place of a model of our own."""

    ANY = "any"  # whatever it has
    SAME = "same"  # where it has that very model
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the screen shows about the model."""

    name: str = ""
    phase: Phase = Phase.OPENING
    server: str | None = None  # its address; None: in this process
    reason: str = ""  # of a failure
    since: float = 0.0  # time.monotonic, when the phase began
    done: int = 0  # bytes that are there while it opens,
    total: int = 0  # of so many; 0: nobody said so yet


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model that can be picked."""

    name: str
    bytes: int | None = None  # None: not known, or not on this machine yet
    place: str | None = None
    server: str | None = None
    open: bool = False
    here: bool = True  # or fetched when it is first used
    fits: bool | None = None  # by its bytes alone; None: nobody knows
    told: str = ""  # of one that was found on the hub: how often it is fetched
    join: Joining = Joining.NEVER


@dataclass(frozen=True, slots=True)
class OpenedClient:
    client: Client
    server: str | None = None


class Backend(Protocol):
    def open(
        self, name: str, server: str | None = None, *, join: Joining, progress: Progress = unwatched
    ) -> OpenedClient:
        """The model of that name, here or on the server. `progress` hears of bytes, and what it raises ends the load
        and the fetching."""

    def choices(self, client: Client | None, server: str | None) -> list[ModelChoice]: ...

    def is_here(self, name: str) -> bool:
        """Whether it need not be fetched."""

    def fetch(self, name: str, progress: Progress) -> None:
        """Bring it to this disk. What `progress` raises ends that; the next time goes on where it stopped."""

    def search(self, words: str) -> list[ModelChoice]:
        """Of the hub, the most fetched ones first."""

    def details(self, name: str) -> ModelDetails:
        """From its headers; may ask the network."""

    def free_copies(self, name: str) -> int:
        """Bytes that are free now."""


class ThisMachine:
    def open(
        self, name: str, server: str | None = None, *, join: Joining, progress: Progress = unwatched
    ) -> OpenedClient:
        from mlxrun import client

        key = os.environ.get(KEY)
        if server is not None:
            return OpenedClient(client.connect(server, key, model=name), server)
        found = client.find_server() if join is not Joining.NEVER else None
        if found is not None:
            with suppress(
                client.ClientError, client.RequestError
            ):  # another key is wanted, it left, or has no such model
                return OpenedClient(client.connect(found, key, model=name if join is Joining.SAME else None), found)
        return OpenedClient(client.load_watched(name, progress))

    def choices(self, client: Client | None, server: str | None) -> list[ModelChoice]:
        from mlxrun.client import by_name, on_this_machine, room_for_models

        loaded, room = client.model if client is not None and server is None else None, room_for_models()
        here = [
            ModelChoice(m.name, m.bytes, m.place, None, m.loaded, m.place is not None, fits(m.bytes, room))
            for m in on_this_machine(loaded=loaded)
        ]
        known = [ModelChoice(m.name, m.bytes, here=False, fits=fits(m.bytes, room)) for m in by_name()]
        if client is None or server is None:
            return here + known
        there = [ModelChoice(m.name, m.bytes, None, server, open=m.name == client.model) for m in client.models()]
        return there + here + known

    def is_here(self, name: str) -> bool:
        from mlxrun.client import is_here

        return is_here(name)

    def fetch(self, name: str, progress: Progress) -> None:
        from mlxrun.client import fetch

        fetch(name, progress)

    def search(self, words: str) -> list[ModelChoice]:
        from mlxrun.client import search_hub

        return [ModelChoice(one.name, here=False, told=f"{one.fetched:,} times a month") for one in search_hub(words)]

    def details(self, name: str) -> ModelDetails:
        from mlxrun.client import details

        return details(name)

    def free_copies(self, name: str) -> int:
        from mlxrun.client import free_copies

        return free_copies(name)


def fits(count: int | None, room: int) -> bool | None:
    return None if count is None else count <= room
