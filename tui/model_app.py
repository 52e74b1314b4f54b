"""The app's model: opened on a thread, let go, fetched, and how much memory it takes. Knows no conversation."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on
from textual.app import App
from textual.reactive import reactive

from .backend import BROKEN, STARTER, Backend, Joining, ModelChoice, ModelState, Phase, Progress
from .fetches import Fetches
from .messages import FetchEnded, MemoryRead, ModelFailed, ModelOpened, ModelProgress

if TYPE_CHECKING:
    from mlxrun.client import Client
    from mlxrun.core import Memory

    from .screens.chat import ChatScreen
    from .sessions import Sessions

IDLE_SECONDS = 20.0  # between two looks at the memory while nothing happens: each look is a thread and a paint
PROGRESS_SECONDS = 0.2  # between two words about bytes
UNLOAD_AFTER = "unload_after"  # minutes, among the settings of the sessions' file
STOPPED = "Stopped; what has arrived is kept."


class LoadUnwanted(RuntimeError):
    """What ends a load."""


class ModelApp(App[None]):
    model: reactive[ModelState] = reactive(ModelState())
    memory: reactive[Memory | None] = reactive(None)
    sessions: Sessions

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend
        self.client: Client | None = None
        self.loading = threading.Lock()  # one model at a time comes into memory
        self.fetches = Fetches(backend, self._fetch_ended)
        self._attempt = 0
        self._reading_memory = threading.Lock()
        self._looked = 0.0  # when the memory was read last, by time.monotonic
        self._used = 0.0  # when the model had something to do last

    @property
    def chat(self) -> ChatScreen:
        raise NotImplementedError

    def tell(self, sentence: str, *, warning: bool = False) -> None:
        raise NotImplementedError

    # come and go

    def open_model(self, choice: ModelChoice | None = None) -> None:
        """That one; without a choice what a running server has, or the last one that was picked."""
        name = choice.name if choice else self.sessions.setting("model") or STARTER
        server, join = (choice.server, choice.join) if choice else (None, Joining.ANY)
        client = self._begin_anew()
        self.model = ModelState(name, Phase.OPENING, server, since=time.monotonic())
        work = (self._attempt, client, name, server, join)
        threading.Thread(target=self._open, args=work, name="mlxrun-open", daemon=True).start()

    def wake_model(self) -> None:
        """The one that was let go; where there was none as at first."""
        self.open_model(ModelChoice(self.model.name) if self.model.phase is Phase.RESTING else None)

    def stop_opening(self) -> None:
        """A load that nobody waits for any more ends; the next message goes on with it."""
        if self.model.phase is Phase.OPENING:
            self._begin_anew()
            self.model = ModelState(self.model.name, Phase.RESTING, self.model.server, STOPPED, time.monotonic())

    def unload_model(self, why: str) -> None:
        """Its memory is free again; the next message loads it anew."""
        client = self._begin_anew()
        self.model = ModelState(self.model.name, Phase.RESTING, None, why, time.monotonic())
        if client is not None:
            threading.Thread(target=self._close, args=(client,), name="mlxrun-close", daemon=True).start()

    def _begin_anew(self) -> Client | None:
        """Whoever opens a model now does it in vain. The client that was there."""
        self._attempt += 1
        client, self.client, self.memory = self.client, None, None
        return client

    def _close(self, client: Client) -> None:
        with self.loading:
            client.close()

    def _open(self, attempt: int, old: Client | None, name: str, server: str | None, join: Joining) -> None:
        with self.loading:
            if old is not None:
                old.close()  # first, since two models may not fit
            if attempt != self._attempt:
                return  # another one was picked meanwhile
            try:
                opened = self.backend.open(name, server, join=join, progress=self._progress(attempt))
            except BROKEN as error:
                self.post_message(ModelFailed(attempt, str(error) or type(error).__name__))
            else:
                self.post_message(ModelOpened(attempt, opened))

    def _progress(self, attempt: int) -> Progress:
        """For the thread that opens: it tells of bytes now and then, and ends a load that nobody wants any more."""
        told = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal told
            if attempt != self._attempt:
                raise LoadUnwanted("Another model was picked meanwhile.")
            if (now := time.monotonic()) - told >= PROGRESS_SECONDS:
                told = now
                self.post_message(ModelProgress(attempt, done, total))

        return progress

    @on(ModelProgress)
    def model_comes(self, event: ModelProgress) -> None:
        if event.attempt == self._attempt and self.model.phase is Phase.OPENING:
            self.model = replace(self.model, done=event.done, total=event.total)

    @on(ModelOpened)
    def model_opened(self, event: ModelOpened) -> None:
        client, server = event.opened.client, event.opened.server
        if event.attempt != self._attempt:
            threading.Thread(target=client.close, daemon=True).start()
            return
        self.client, self._used = client, time.monotonic()
        if server is None:
            self.sessions.remember("model", client.model)
        self.model = ModelState(client.model, Phase.READY, server, since=time.monotonic())
        self.look_at_memory()
        threading.Thread(target=self._learn_names, args=(client, server), name="mlxrun-names", daemon=True).start()

    def _learn_names(self, client: Client, server: str | None) -> None:
        """What /model and /compare can be completed with."""
        with suppress(*BROKEN):
            names = tuple(choice.name for choice in self.backend.choices(client, server))
            self.call_later(self.chat.know_names, names)

    @on(ModelFailed)
    def model_failed(self, event: ModelFailed) -> None:
        if event.attempt == self._attempt:
            self.model = ModelState(self.model.name, Phase.FAILED, self.model.server, event.reason, time.monotonic())
            if self.chat.talk is not None and self.chat.talk.turns:
                self.tell(event.reason, warning=True)

    def lose_server(self, reason: str) -> None:
        self.client, self.memory = None, None
        self.model = ModelState(self.model.name, Phase.LOST, self.model.server, reason, time.monotonic())

    # fetched beside the one that runs

    def fetch(self, name: str) -> None:
        self.fetches.begin(name)

    def _fetch_ended(self, name: str, reason: str) -> None:
        """On its thread."""
        self.post_message(FetchEnded(name, reason))

    @on(FetchEnded)
    def fetch_ended(self, event: FetchEnded) -> None:
        if event.reason:
            self.tell(event.reason, warning=True)
        elif event.name not in self.fetches.names:  # of those that were stopped too
            self.tell(f"{event.name} has arrived; ctrl+l changes to it.")

    # what it costs

    @property
    def unload_after(self) -> float | None:
        """Minutes without a message after which the model is let go; None: never."""
        told = self.sessions.setting(UNLOAD_AFTER)
        return float(told) if told else None

    def unload_later(self, minutes: float | None) -> None:
        self.sessions.remember(UNLOAD_AFTER, "" if minutes is None else str(minutes))

    def look_when_due(self) -> None:
        if not self.screen_stack:
            return  # it ends
        now = time.monotonic()
        if self.chat.busy:
            self._used = now
        if self.chat.busy or now - self._looked >= IDLE_SECONDS:
            self.look_at_memory()
            self._unload_when_due(now)

    def _unload_when_due(self, now: float) -> None:
        minutes, mine = self.unload_after, self.client is not None and self.model.server is None
        if mine and not self.chat.busy and minutes is not None and now - self._used >= 60 * minutes:
            self.unload_model(f"It had nothing to do for {minutes:g} minutes.")

    def look_at_memory(self) -> None:
        client, self._looked = self.client, time.monotonic()
        if client is not None and self._reading_memory.acquire(blocking=False):
            threading.Thread(target=self._read_memory, args=(client,), daemon=True).start()

    def _read_memory(self, client: Client) -> None:
        try:
            self.post_message(MemoryRead(client.memory()))
        except BROKEN:
            self.post_message(MemoryRead(None))
        finally:
            self._reading_memory.release()

    @on(MemoryRead)
    def memory_read(self, event: MemoryRead) -> None:
        self.memory = event.memory if self.client is not None else None
