"""An answer as a person at a terminal gets it: streamed, and ended by Ctrl-C without losing what was said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..assistant import Answer
from ..core import Finish, RequestError, Usage

Write = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    finish: Finish
    usage: Usage | None


def follow(answer: Answer, write: Write, think: Write) -> Reply:
    """Stream content to `write` and reasoning to `think`. Ctrl-C ends it there, as an answer that was cancelled."""
    said: list[str] = []
    finish, usage = Finish.CANCELLED, None
    try:
        for piece in answer:
            if piece.finish in (Finish.REFUSED, Finish.FAILED):
                raise RequestError(piece.reason or "The engine gave no answer.")
            if piece.reasoning:
                think(piece.reasoning)
            if piece.content:
                said.append(piece.content)
                write(piece.content)
            finish, usage = piece.finish or finish, piece.usage
    except KeyboardInterrupt:
        finish = Finish.CANCELLED
    finally:
        answer.cancel()  # nobody listens any more
    return Reply("".join(said), finish, usage)
