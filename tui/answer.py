"""Reads a model's answer on a thread of its own, so that the screen may look when it likes.

Whoever shows the answer takes what has come since the last look. Knows no widgets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlxrun.core import Finish, Refusal
from mlxrun.parts import AnswerPart, Arguments, CallBegun, CallEnded, Piece, Thought, Token, as_text, merged

if TYPE_CHECKING:
    from mlxrun.client import PieceSource
    from mlxrun.core import Usage


@dataclass(frozen=True, slots=True)
class Batch:
    """What came since the last look. The one with `finish` is the last."""

    parts: tuple[AnswerPart, ...] = ()
    pieces: int = 0  # about one a token
    finish: Finish | None = None
    reason: str | None = None
    usage: Usage | None = None
    refusal: Refusal | None = None
    tokens: tuple[Token, ...] = ()  # where log-probabilities were asked for
    apart: tuple[type[AnswerPart], ...] = (Thought,)  # what is shown elsewhere

    @property
    def content(self) -> str:
        """What is shown as the answer: all but what is shown apart, calls and files in brackets."""
        return "".join([as_text(part) for part in self.parts if not isinstance(part, self.apart)])

    @property
    def reasoning(self) -> str:
        return "".join([part.text for part in self.parts if isinstance(part, Thought)])


class AnswerReader:
    def __init__(self, ask: Callable[[], PieceSource], *, calls_apart: bool = False) -> None:
        """`ask` runs on the thread too: a template and a tokenizer may take their time."""
        self._ask = ask
        self._apart = (Thought, CallBegun, Arguments, CallEnded) if calls_apart else (Thought,)
        self._lock = threading.Lock()
        self._new: list[Piece] = []
        self._end: Batch | None = None
        self._stream: PieceSource | None = None
        self._cancelled = False
        self.first: float | None = None  # when the first piece came, by time.monotonic
        self._thread = threading.Thread(target=self._run, name="mlxrun-answer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled, stream = True, self._stream
        if stream is not None:
            stream.cancel()

    def wait(self, seconds: float) -> bool:
        """Whether the answer ended in that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def prompt_read(self) -> tuple[int, int] | None:
        """Tokens of the prompt that the model has seen, of so many; None: nobody tells."""
        with self._lock:
            return None if self._stream is None else self._stream.prompt_read

    def take(self) -> Batch:
        with self._lock:
            new, self._new, end = self._new, [], self._end
        end = end or Batch()
        parts = merged(part for piece in new for part in piece.parts)
        tokens = tuple(token for piece in new for token in piece.tokens)
        return Batch(parts, len(new), end.finish, end.reason, end.usage, end.refusal, tokens, self._apart)

    def _run(self) -> None:
        end = Batch(finish=Finish.FAILED, reason="The answer broke off without a reason.")
        try:
            end = self._read()
        except (ValueError, RuntimeError, OSError) as error:
            started = self.first is not None
            end = Batch(finish=Finish.FAILED if started else Finish.REFUSED, reason=str(error) or type(error).__name__)
        finally:
            with self._lock:
                self._end = end

    def _read(self) -> Batch:
        stream = self._ask()
        with self._lock:
            self._stream, cancelled = stream, self._cancelled
        if cancelled:
            stream.cancel()
        for piece in stream:
            with self._lock:
                if piece.parts or piece.tokens:
                    self.first = self.first or time.monotonic()
                    self._new.append(piece)
            if piece.finish is not None:
                return Batch(finish=piece.finish, reason=piece.reason, usage=piece.usage, refusal=piece.refusal)
        return Batch(finish=Finish.CANCELLED if self._cancelled else Finish.FAILED, reason="The answer broke off.")
