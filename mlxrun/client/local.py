"""The transport into this process: an `Assistant` and its engine. Imported only by who loads a model here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adapters.names import name_of
from ..assistant import COUNTED, Answer, Assistant, Wish
from ..core import Finish, Memory, Refusal, Request, RequestError, TokenLogprob
from ..engine.embedding import BROKEN, ReadingJob
from ..engine.request import check
from ..loading.tracing import trace_job
from ..parts import Piece, Token
from ..settings import HEADS, OFF, from_environment
from ..spec import ModelError
from ..speech import Transcript, TranscriptWish
from ..store.resolve import draft_model, resolve
from ..text.conversation import turns_of
from ..turns import Ask, Role
from .arrival import watched
from .store import on_this_machine
from .types import Asking, ClientError, ModelInfo, Score

if TYPE_CHECKING:
    from .readings import Array, What


class Refused:
    """The source of an answer that never began."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __iter__(self) -> Iterator[Piece]:
        yield Piece(finish=Finish.REFUSED, reason=self._reason)

    def cancel(self) -> None:
        """There is nothing to end."""

    @property
    def prompt_read(self) -> tuple[int, int] | None:
        return None


class LocalSource:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def cancel(self) -> None:
        self._answer.cancel()

    @property
    def prompt_read(self) -> tuple[int, int] | None:
        return self._answer.prompt_read, self._answer.prompt_tokens

    def __iter__(self) -> Iterator[Piece]:
        return map(piece_of, self._answer)


class LocalTransport:
    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant

    @classmethod
    def open(cls, name: str, context: int | None, how: dict[str, Any]) -> LocalTransport:
        from ..loading import LoadOptions
        from ..loading.options import ignore_progress
        from ..tune import begin

        settings = from_environment().but(context=context)
        given = LoadOptions(
            settings.context,
            progress=how.pop("progress", None) or ignore_progress,
            memory=settings.memory,
            ready=settings.ready,
            unchecked=how.pop("unchecked", False),
            wire=settings.wire,
            kv_bits=settings.kv_bits,
            drafts=settings.draft != OFF,
            draft_model=draft_model(settings),
            draft_heads=settings.draft == HEADS,
        )
        options, adapter = how.pop("options", given), how.pop("adapter", None)
        if adapter is not None:
            options = replace(options, adapters=((name_of(adapter), adapter),))
        if options.device is None:
            tuning = begin(settings)
            options = replace(options, device=tuning.device)
            how.setdefault("idle", tuning.idle)
        with watched(options.progress) as told:
            place = resolve(name, settings, told)
        assistant = Assistant.open(place, name=name, options=options, **how)
        return cls(assistant if adapter is None else assistant.adapted(name_of(adapter)))

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
            turns = turns_of(ask.messages)
            asked = Ask(turns, ask.tools, continues=turns[-1].role is Role.ASSISTANT)
            return LocalSource(assistant.answer(asked, wish)[0])
        except (RequestError, ModelError) as error:
            return Refused(str(error))

    def tokenize(self, text: str) -> list[int]:
        return self.assistant.ids(text, special=False, times=COUNTED)

    def detokenize(self, tokens: Sequence[int]) -> str:
        spelled = map(self.assistant.tokenizer.token_bytes, tokens)
        return b"".join(spelled).decode("utf-8", "replace")

    def score(self, text: str, top: int) -> Score:
        ids = self.assistant.raw_ids(text)
        spell = self.assistant.tokenizer.token_bytes
        told = [TokenLogprob(math.nan)]
        if len(ids) > 1:
            told += waited(self.assistant.score(ids, top))
        tops = [tuple(Token(spell(other), value, id=other) for other, value in one.top) for one in told]
        tokens = [Token(spell(i), one.logprob, best, i) for i, one, best in zip(ids, told, tops, strict=True)]
        return Score(text, tuple(tokens))

    def embed(self, texts: Sequence[str], size: int | None, prompt: str | None, truncate: bool) -> Array:
        trained = self.assistant.embedding.refuses(size)
        if trained is not None:
            raise RequestError(f"size must be {trained}, which {self.model} was trained for, not {size}.")
        return np.stack(waited(self.assistant.embed(texts, size, prompt=prompt, truncate=truncate)))

    def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        return [share(logit) for logit in waited(self.assistant.rank(question, texts))]

    def trace(self, text: str, layers: Sequence[int] | None, what: What, plain: bool) -> Array:
        ids, engine = self.assistant.raw_ids(text), self.assistant.engine
        check(Request(tuple(ids), max_tokens=1), engine.model.vocab, engine.context)
        job = trace_job(engine.model, ids, layers, what, plain=plain)
        engine.embed(job)
        found: Array = waited(job)
        return found

    def transcribe(self, sound: bytes | Array, wish: TranscriptWish) -> Transcript:
        transcriber = self.assistant.transcriber
        if transcriber is None:
            raise RequestError(f"{self.model} writes down no speech.")
        samples = transcriber.open(sound) if isinstance(sound, bytes) else transcriber.samples(sound)
        return transcriber.transcript(waited(transcriber.begin(samples, wish)))

    def models(self) -> list[ModelInfo]:
        return on_this_machine(loaded=self.model)

    @property
    def context(self) -> int:
        return self.assistant.engine.context

    @property
    def sees(self) -> bool:
        return self.assistant.sees

    def memory(self) -> Memory | None:
        return self.assistant.engine.memory()

    def statistics(self) -> dict[str, Any]:
        return self.assistant.engine.statistics().data()

    def close(self) -> None:
        self.assistant.close()


def share(logit: float) -> float:
    """From 0 to 1."""
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def waited(job: ReadingJob) -> Any:
    """What the engine's thread makes of it. Who stops waiting ends it."""
    try:
        return job.done.result()
    except (RequestError, ModelError):
        raise
    except BROKEN as error:
        raise ClientError(f"The model broke: {error}") from error
    finally:
        job.done.cancel()


def piece_of(piece: Piece) -> Piece:
    """A server says with a status of its own that it is busy, not with that of a bad request; so do we."""
    return replace(piece, finish=Finish.FAILED) if piece.refusal in (Refusal.BUSY, Refusal.QUEUE) else piece
