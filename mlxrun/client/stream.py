"""An answer on its way, wherever it comes from."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

from ..parts import Piece
from .types import Reply


class PieceSource(Protocol):
    """The pieces of one answer as they come; the last one has a `finish`, whatever happens."""

    def __iter__(self) -> Iterator[Piece]: ...

    def cancel(self) -> None:
        """From any thread: the answer ends soon, with a last piece that says so."""

    @property
    def prompt_read(self) -> tuple[int, int] | None:
        """Tokens of the prompt that the model has seen, of so many; None where nobody tells. From any thread."""


class Stream:
    """An answer on its way: iterate once over its pieces. Whoever stops iterating ends it."""

    def __init__(self, source: PieceSource) -> None:
        self._source = source
        self._pieces: list[Piece] = []
        self._running = self._run()

    def __iter__(self) -> Iterator[Piece]:
        return self._running

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cancel(self) -> None:
        """May be called from any thread; the text so far stays, and a last piece says CANCELLED."""
        self._source.cancel()

    @property
    def prompt_read(self) -> tuple[int, int] | None:
        """Tokens of the prompt that the model has seen, of so many; None where a server does not tell."""
        return self._source.prompt_read

    def close(self) -> None:
        self.cancel()
        self._running.close()

    @property
    def reply(self) -> Reply:
        """What came so far, as one."""
        return Reply.of(self._pieces)

    def _run(self) -> Generator[Piece, None, None]:
        ended = False
        try:
            for piece in self._source:
                self._pieces.append(piece)
                ended = piece.finish is not None
                yield piece
        finally:
            if not ended:
                self._source.cancel()
