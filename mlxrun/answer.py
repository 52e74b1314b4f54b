"""An answer on its way, as whoever reads it has it: a handle's token ids come in, pieces of text go out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from .core import Event, Finish, TokenLogprob
from .engine.handle import Handle
from .parts import Piece, Token, merged
from .text.items import Item
from .text.router import PartRouter
from .text.stops import StopParts
from .text.tokenizer import Tokenizer


class Answer:
    """An answer on its way: iterate over its pieces; `cancel` may come from any thread."""

    def __init__(self, handle: Handle, tokenizer: Tokenizer, stops: Sequence[str], router: PartRouter) -> None:
        self._handle, self._tokenizer, self._router = handle, tokenizer, router
        self._stops = StopParts(stops)
        self._thought = 0  # tokens

    @property
    def prompt_tokens(self) -> int:
        return len(self._handle.request.tokens)

    @property
    def prompt_read(self) -> int:
        """Tokens of the prompt that the model has seen so far, from a cache or by reading."""
        return self._handle.read

    def cancel(self) -> None:
        self._handle.cancel()

    def listen(self, ring: Callable[[], None]) -> None:
        """Call `ring`, from any thread, whenever there may be something in `ready`."""
        self._handle.listen(ring)

    def ready(self) -> Iterator[Piece]:
        """The pieces that are there already; iterating over the answer waits for them instead."""
        return self._pieces(self._handle.ready())

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces(self._handle)

    def _pieces(self, events: Iterable[Event]) -> Iterator[Piece]:
        for event in events:
            piece = self._piece(event)
            if piece.finish is not None or piece.parts or piece.tokens:
                yield piece

    def _piece(self, event: Event) -> Piece:
        stopped = self._stops.found is not None
        parts = [] if stopped else self._stops.push(self._read(event.tokens))
        tokens = () if stopped else tuple(map(self._token, event.tokens, event.logprobs))
        if event.finish is None:
            if not stopped and self._stops.found is not None:
                self._handle.cancel()
            return Piece(merged(parts) if len(parts) > 1 else tuple(parts), tokens, stop=self._stops.found)
        if self._stops.found is None:
            parts += self._stops.push(self._router.finish()) + self._stops.finish()
        found = self._stops.found
        return Piece(
            parts=merged(parts),
            tokens=tokens,
            finish=event.finish if found is None else Finish.STOP,
            stop=found,
            reason=event.reason if found is None else None,
            usage=None if event.usage is None else replace(event.usage, reasoning_tokens=self._thought),
            refusal=event.refusal,
            retry_after=event.retry_after,
        )

    def _read(self, tokens: Sequence[int]) -> list[Item]:
        items: list[Item] = []
        for token in tokens:
            before = self._router.thinking
            items += self._router.push((token,))
            self._thought += before or self._router.thinking
        return items

    def _token(self, token: int, logprob: TokenLogprob) -> Token:
        spell = self._tokenizer.token_bytes
        top = tuple(Token(spell(i), value, id=i) for i, value in logprob.top)
        return Token(spell(token), logprob.logprob, top, token)
