"""A client that says what a test wrote for it, and an app on top of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlxrun.tui.app import Chat
from mlxrun.tui.backend import Joining, ModelChoice, OpenedClient, unwatched

from mlxrun.client import ClientError, ModelDetails, ModelError, Piece, Said, Thought
from mlxrun.core import Finish, Memory, Usage

GB = 10**9
USAGE = Usage(prompt_tokens=12, cached_tokens=0, output_tokens=21, prefill_seconds=0.1, decode_seconds=2.0)
MEMORY = Memory(weights=98_000_000, cache=12_000_000, active=120_000_000, peak=150_000_000, free=9 * GB, total=16 * GB)
STOP = Piece(finish=Finish.STOP, usage=USAGE)


def said(text: str, *, reasoning: str = "") -> list[Piece]:
    """An answer in pieces of a few characters."""
    thoughts = [Piece((Thought(reasoning[i : i + 4]),)) for i in range(0, len(reasoning), 4)]
    return [*thoughts, *(Piece((Said(text[i : i + 4]),)) for i in range(0, len(text), 4)), STOP]


class FakeStream:
    """`gate`: pieces after the first wait for it, or for `cancel`."""

    def __init__(self, pieces: Sequence[Piece], gate: threading.Event | None) -> None:
        self._pieces, self._gate, self._cancelled = pieces, gate, threading.Event()
        self.prompt_read: tuple[int, int] | None = None

    def cancel(self) -> None:
        self._cancelled.set()
        if self._gate is not None:
            self._gate.set()

    def __iter__(self) -> Iterator[Piece]:
        for index, piece in enumerate(self._pieces):
            if index and self._gate is not None:
                self._gate.wait(10)
            if self._cancelled.is_set():
                yield Piece(finish=Finish.CANCELLED)
                return
            yield piece


@dataclass
class FakeClient:
    model: str = "tiny"
    answers: list[list[Piece]] = field(default_factory=list)  # one for each question, in turn
    gate: threading.Event | None = None
    asked: list[list[dict[str, str]]] = field(default_factory=list)
    options: list[dict[str, object]] = field(default_factory=list)
    context: int | None = 8192
    closed: bool = False
    sees: bool | None = False

    def stream(self, messages: Sequence[dict[str, str]], **options: object) -> FakeStream:
        self.asked.append([dict(message) for message in messages])
        self.options.append(options)
        return FakeStream(self.answers.pop(0) if self.answers else said("Yes."), self.gate)

    def statistics(self) -> dict[str, dict[str, float]]:
        return {"totals": {"passes": 7, "prompt_tokens": 30, "cached_tokens": 10}, "now": {"waiting": 2}, "seconds": {}}

    def memory(self) -> Memory:
        return MEMORY

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeBackend:
    """`loaded`: set when models may come; `broken`: name -> the sentence that opening it raises."""

    clients: list[FakeClient] = field(default_factory=lambda: [FakeClient()])
    loaded: threading.Event = field(default_factory=threading.Event)
    server: str | None = None
    broken: dict[str, str] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    far: list[str] = field(default_factory=list)  # names that are not here
    hub: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    arrives: threading.Event = field(default_factory=threading.Event)
    coming: tuple[int, int] | None = None  # bytes that are told while a model loads

    def open(
        self, name: str, server: str | None = None, *, join: Joining, progress: Callable[[int, int], None] = unwatched
    ) -> OpenedClient:
        for _ in range(500):
            if self.loaded.wait(0.02):
                break
            if self.coming is not None:
                progress(*self.coming)
        self.opened.append(name)
        if name in self.broken:
            raise ModelError(self.broken[name])
        if not self.clients:
            raise ClientError("No server answers.")
        client = self.clients.pop(0) if len(self.clients) > 1 else self.clients[0]
        if join is not Joining.ANY:
            client.model = name
        return OpenedClient(client, self.server if join is Joining.ANY else server)  # type: ignore[arg-type]  # a fake has what the UI uses

    def choices(self, client: object, server: str | None) -> list[ModelChoice]:
        name = client.model if isinstance(client, FakeClient) else None
        sizes: list[tuple[str, int | None]] = [("tiny", 98_362_432), ("big [bold]", 17_300_000_000), ("smollm2", None)]
        return [ModelChoice(model, size, open=model == name, here=size is not None) for model, size in sizes]

    def is_here(self, name: str) -> bool:
        return name not in self.far

    def fetch(self, name: str, progress: Callable[[int, int], None]) -> None:
        """Half of it at once; the rest when `arrives` is set."""
        self.fetched.append(name)
        if name in self.broken:
            raise ClientError(self.broken[name])
        progress(500_000_000, GB)
        while not self.arrives.wait(0.02):
            progress(500_000_000, GB)
        progress(GB, GB)

    def search(self, words: str) -> list[ModelChoice]:
        if words in self.broken:
            raise ModelError(self.broken[words])
        return [ModelChoice(name, here=False, told="1,234 times a month") for name in self.hub if words in name]

    def details(self, name: str) -> ModelDetails:
        if name != "tiny":
            raise ModelError(f"There is no model {name!r}.")
        return ModelDetails(name, "llama", 30, 4.5, 10**9, True, 4096, 8192, 42.0, 97_000_000)

    def free_copies(self, name: str) -> int:
        return 97_000_000


Maker = Callable[..., Chat]


def chat(
    folder: Path, *answers: list[Piece], ready: bool = True, model: str | None = None, **how: object
) -> tuple[Chat, FakeBackend]:
    backend = FakeBackend([FakeClient(answers=list(answers))], **how)  # type: ignore[arg-type]  # fields by name
    if ready:
        backend.loaded.set()
    return Chat(backend, folder / "sessions.db", model, settings=folder / "tui.toml"), backend
