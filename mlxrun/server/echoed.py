"""An answer that begins with its prompt: what the model thinks of the prompt's tokens, then what it writes, if any.

Nobody foretold the first token of a prompt: its log-probability is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

from ..assistant import Assistant
from ..core import Finish, TokenLogprob, Usage
from ..engine.embedding import BROKEN
from ..engine.scoring import ScoringJob
from ..parts import Piece, Token
from .answering import Answering


class EchoedAnswer:
    """`scored`: None, where nobody wants to know; `answer`: None, where no token more is wanted."""

    def __init__(
        self, assistant: Assistant, prompt_tokens: int, scored: ScoringJob | None, answer: Answering | None
    ) -> None:
        self._assistant, self._scored, self._answer = assistant, scored, answer
        self.prompt_tokens = prompt_tokens
        self._begun = self._ended = False

    def cancel(self) -> None:
        if self._scored is not None:
            self._scored.done.cancel()
        if self._answer is not None:
            self._answer.cancel()

    def listen(self, ring: Callable[[], None]) -> None:
        if self._answer is not None:
            self._answer.listen(ring)
        if self._scored is not None:
            self._scored.done.add_done_callback(lambda _: ring())
        ring()

    def ready(self) -> Iterator[Piece]:
        if self._ended or not (self._scored is None or self._scored.done.done()):
            return
        if not self._begun:
            self._begun = True
            first = self._first()
            self._ended = first.finish is not None
            yield first
        if self._answer is not None and not self._ended:
            yield from self._answer.ready()

    def _first(self) -> Piece:
        try:
            tokens = () if self._scored is None else self._told(self._scored)
        except CancelledError:
            return Piece(finish=Finish.CANCELLED)
        except BROKEN as error:
            if self._answer is not None:
                self._answer.cancel()
            return Piece(finish=Finish.FAILED, reason=str(error))
        if self._answer is not None:
            return Piece(tokens=tokens)
        return Piece(tokens=tokens, finish=Finish.LENGTH, usage=Usage(self.prompt_tokens, 0, 0, 0.0, 0.0))

    def _told(self, scored: ScoringJob) -> tuple[Token, ...]:
        spell = self._assistant.tokenizer.token_bytes
        found = [TokenLogprob(math.nan), *scored.done.result()]
        return tuple(
            Token(spell(token), one.logprob, tuple(Token(spell(i), value, id=i) for i, value in one.top), token)
            for token, one in zip(scored.tokens, found, strict=True)
        )
