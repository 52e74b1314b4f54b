"""The transport into this process: an `Assistant` and its engine. Imported only by who loads a model here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..assistant import Answer, Assistant, Wish
from ..core import Finish, Memory, Refusal, RequestError
from ..parts import Piece
from ..settings import OFF, from_environment
from ..spec import ModelError
from ..store.resolve import draft_model, resolve
from .store import on_this_machine
from .types import Asking, ModelInfo


class Refused:
    """The source of an answer that never began."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __iter__(self) -> Iterator[Piece]:
        yield Piece(finish=Finish.REFUSED, reason=self._reason)

    def cancel(self) -> None:
        """There is nothing to end."""


class LocalSource:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def cancel(self) -> None:
        self._answer.cancel()

    def __iter__(self) -> Iterator[Piece]:
        return map(piece_of, self._answer)


class LocalTransport:
    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant

    @classmethod
    def open(cls, name: str, context: int | None, how: dict[str, Any]) -> LocalTransport:
        from ..loading import LoadOptions
        from ..tune import begin

        settings = from_environment().but(context=context)
        given = LoadOptions(
            settings.context,
            memory=settings.memory,
            ready=settings.ready,
            unchecked=how.pop("unchecked", False),
            wire=settings.wire,
            kv_bits=settings.kv_bits,
            drafts=settings.draft != OFF,
            draft_model=draft_model(settings),
        )
        options = how.pop("options", given)
        if options.device is None:
            tuning = begin(settings)
            options = replace(options, device=tuning.device)
            how.setdefault("idle", tuning.idle)
        return cls(Assistant.open(resolve(name, settings), name=name, options=options, **how))

    @property
    def model(self) -> str:
        return self.assistant.name

    def ask(self, ask: Asking) -> LocalSource | Refused:
        options, assistant = ask.options, self.assistant
        wish = Wish(
            max_tokens=options.max_tokens,
            sampling=options.sampling(assistant.sampling),
            stop=options.stop,
            template=options.template,
            constraint=options.constraint,
        )
        try:
            if ask.prompt is not None:
                return LocalSource(assistant.complete(ask.prompt, wish)[0])
            return LocalSource(assistant.chat(ask.messages, wish))
        except (RequestError, ModelError) as error:
            return Refused(str(error))

    def models(self) -> list[ModelInfo]:
        return on_this_machine(loaded=self.model)

    def memory(self) -> Memory | None:
        return self.assistant.engine.memory()

    def close(self) -> None:
        self.assistant.close()


def piece_of(piece: Piece) -> Piece:
    """A server says with a status of its own that it is busy, not with that of a bad request; so do we."""
    return replace(piece, finish=Finish.FAILED) if piece.refusal in (Refusal.BUSY, Refusal.QUEUE) else piece
