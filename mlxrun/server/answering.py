"""What the server needs of an answer on its way, whoever makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..parts import Piece


class Answering(Protocol):
    """As `assistant.Answer` is."""

    @property
    def prompt_tokens(self) -> int: ...

    def cancel(self) -> None:
        """From any thread."""

    def listen(self, ring: Callable[[], None]) -> None:
        """Call `ring`, from any thread, whenever there may be something in `ready`."""

    def ready(self) -> Iterator[Piece]:
        """The pieces that are there already."""
