"""What the chat asks of the program around it: the model, the sessions, a word to the person."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from .backend import Backend, ModelChoice, ModelState
from .fetches import Fetches
from .toolbox import McpToolbox, Reached

if TYPE_CHECKING:
    from mlxrun.client import Client
    from mlxrun.client.mcp.connections import LentTool

    from .imports import Imported
    from .sessions import Sessions
    from .widgets.call import CallCard


class Host(Protocol):
    @property
    def client(self) -> Client | None:
        """There while the model is ready."""

    @property
    def model(self) -> ModelState: ...

    @property
    def backend(self) -> Backend: ...

    @property
    def loading(self) -> threading.Lock:
        """Held while a model comes into memory."""

    @property
    def sessions(self) -> Sessions: ...

    def change_model(self, choice: ModelChoice | None) -> None:
        """None: the person picks one."""

    def presets(self) -> dict[str, str]:
        """By name, as wishes.py writes them."""

    def keep_preset(self, name: str, wishes: str | None) -> None:
        """None: it is deleted."""

    def edit_text(self, text: str) -> str | None:
        """In the person's editor. None: it could not be, which was told."""

    def change_theme(self, name: str) -> None: ...

    def take_in(self, found: Sequence[Imported]) -> None:
        """Conversations from elsewhere become sessions."""

    def wake_model(self) -> None:
        """The one that was let go; else what a running server has, or the last one that was picked."""

    def stop_opening(self) -> None:
        """Of a model that is on its way: nothing where none is."""

    def unload(self) -> None:
        """The model that runs here, or a word why not."""

    @property
    def unload_after(self) -> float | None:
        """Minutes without a message after which the model is let go; None: never."""

    def unload_later(self, minutes: float | None) -> None: ...

    @property
    def fetches(self) -> Fetches: ...

    @property
    def toolbox(self) -> McpToolbox: ...

    @property
    def tools(self) -> Mapping[str, LentTool]:
        """Those that were reached, by the names that a model knows them by."""

    def reach_tools(self, names: Sequence[str]) -> list[Reached]:
        """Of these servers, or of all; may take its time. A RequestError tells what cannot be."""

    def may_call(self, lent: LentTool) -> bool:
        """Without a word."""

    def allow(self, lent: LentTool) -> None:
        """From now on without a word, as it is today."""

    def call_waits(self, card: CallCard) -> None: ...

    def call_decided(self) -> None: ...

    def fetch(self, name: str) -> None:
        """Beside the model that runs."""

    def lose_server(self, reason: str) -> None: ...

    async def open_session(self, session: int | None) -> None:
        """None: a new one."""

    def tell(self, sentence: str) -> None: ...

    def tell_once(self, sentence: str) -> None:
        """In place of all that was told before."""

    def copy_selected(self, text: str) -> None: ...

    def look_at_memory(self) -> None: ...

    async def copy(self, text: str, what: str) -> None:
        """`what` begins the sentence that is told."""

    def told_if_unsaved(self) -> AbstractContextManager[None]: ...
