"""An answer as a person at a terminal gets it: streamed, and ended by Ctrl-C without losing what was said."""

from __future__ import annotations

from collections.abc import Callable

from ..assistant import Answer
from ..client.types import Reply
from ..core import Finish, RequestError
from ..parts import Piece, Said, as_text

Write = Callable[[str], None]


def follow(answer: Answer, write: Write, think: Write) -> Reply:
    """Stream what is said to `write` and thoughts to `think`. Ctrl-C ends it there, as an answer that was cancelled."""
    pieces: list[Piece] = []
    try:
        for piece in answer:
            if piece.finish in (Finish.REFUSED, Finish.FAILED, Finish.EXPIRED):
                raise RequestError(piece.reason or "The engine gave no answer.")
            pieces.append(piece)
            show(piece, write, think)
    except KeyboardInterrupt:
        pieces.append(Piece(finish=Finish.CANCELLED))
    finally:
        answer.cancel()  # nobody listens any more
    return Reply.of(pieces)


def show(piece: Piece, write: Write, think: Write) -> None:
    for part in piece.parts:
        (write if isinstance(part, Said) else think)(as_text(part))
