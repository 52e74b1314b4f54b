"""A model with its text half: what a person writes goes in, what the model says comes out in pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import Finish, Request, RequestError, Sampling, Usage
from ..engine.engine import Engine
from ..engine.load import load_model
from ..text.detokenizer import Detokenizer
from ..text.template import ChatTemplate
from ..text.tokenizer import Tokenizer
from ..weights import open_checkpoint

Message = dict[str, str]


@dataclass(frozen=True)
class Answer:
    text: str
    finish: Finish
    usage: Usage | None


@dataclass(frozen=True)
class Conversation:
    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate
    seconds: float  # that loading took

    @classmethod
    def open(cls, path: Path, *, context: int | None, dialect: Any, waive: Sequence[str]) -> Conversation:
        began = time.perf_counter()
        tokenizer, template = open_text(path)
        engine = Engine.start(lambda: load_model(path, dialect=dialect, waive=frozenset(waive)), context)
        return cls(engine, tokenizer, template, time.perf_counter() - began)

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        return self.tokenizer.encode(self.template.render(messages), special=True)

    def plain_ids(self, text: str) -> list[int]:
        return [*self.tokenizer.prefix, *self.tokenizer.encode(text, special=True)] if text else []

    def ask(
        self, ids: Sequence[int], sampling: Sampling, max_tokens: int | None, write: Callable[[str], None]
    ) -> Answer:
        """Stream the answer to `write`. Ctrl-C ends it there, as an answer that was cancelled."""
        request = Request(tuple(ids), max_tokens, sampling, self.tokenizer.eos_ids)
        handle, pieces = self.engine.submit(request), Detokenizer(self.tokenizer)
        said: list[str] = []

        def tell(text: str) -> None:
            if text:
                said.append(text)
                write(text)

        finish, usage = Finish.CANCELLED, None
        try:
            for event in handle:
                tell(pieces.push(event.tokens))
                if event.finish in (Finish.REFUSED, Finish.FAILED):
                    raise RequestError(event.reason or "The engine gave no answer.")
                finish, usage = event.finish or finish, event.usage
        except KeyboardInterrupt:
            finish = Finish.CANCELLED
        finally:
            handle.cancel()  # nobody listens any more
        tell(pieces.finish())
        return Answer("".join(said), finish, usage)


def open_text(path: Path) -> tuple[Tokenizer, ChatTemplate]:
    if path.is_dir():
        return Tokenizer.from_folder(path), ChatTemplate.from_folder(path)
    metadata = open_checkpoint(path).metadata
    return Tokenizer.from_gguf(metadata), ChatTemplate.from_gguf(metadata)
