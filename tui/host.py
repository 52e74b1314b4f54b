"""What the chat asks of the program around it: the model, the sessions, a word to the person."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from .backend import ModelState

if TYPE_CHECKING:
    from mlxrun.client import Client


class Host(Protocol):
    @property
    def client(self) -> Client | None:
        """There while the model is ready."""

    @property
    def model(self) -> ModelState: ...

    def open_model(self) -> None:
        """What a running server has, or the last one that was picked."""

    def lose_server(self, reason: str) -> None: ...

    async def open_session(self, session: int | None) -> None:
        """None: a new one."""

    def tell(self, sentence: str) -> None: ...

    async def copy(self, text: str, what: str) -> None:
        """`what` begins the sentence that is told."""

    def told_if_unsaved(self) -> AbstractContextManager[None]: ...
