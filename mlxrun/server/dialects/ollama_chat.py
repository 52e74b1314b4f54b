"""/api/chat and /api/generate: Ollama's words, as its clients and the editors that look for it speak them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ...assistant import Answer
from ..capabilities import calls_tools, thinks
from ..check import check
from ..dialect import Body, Job, Json, Operation, Voice, WantedModel
from ..errors import ApiError
from .ollama_answers import LineEncoder, LineFraming, TextEncoder, error_body
from .ollama_ask import chat_of, keep_of, text_of, wish_of
from .ollama_fields import CHAT, CHAT_SCHEMAS, ERROR, GENERATE, TEXT_SCHEMAS, content_of

RETURNS = "The answer; with stream, which is usual, its lines."


class OllamaDialect(ABC):
    """What both have in common: a model that is only loaded or unloaded, and errors."""

    def __init__(self, path: str, operation: Operation, encoder: type[LineEncoder]) -> None:
        self.path, self.operation, self._encoder = path, operation, encoder

    def error(self, error: ApiError) -> Json:
        return error_body(error)

    def check(self, body: Body) -> WantedModel:
        check(body, self.operation.request)
        return WantedModel(body["model"], keep_of(body.get("keep_alive")))

    def read(self, body: Body, voice: Voice) -> Job:
        start = self.start(body, voice)
        nothing = "unload" if keep_of(body.get("keep_alive")) == 0 else "load"
        framing = LineFraming(body["model"], voice.waited, bool(body.get("logprobs")), nothing)
        answers = 1 if start is not None else 0
        return Job(start or no_answers, answers, self._encoder(framing), stream=body.get("stream") is not False)

    @abstractmethod
    def start(self, body: Body, voice: Voice) -> Callable[[], list[Answer]] | None:
        """None: there is nothing to answer."""


def no_answers() -> list[Answer]:
    return []


class OllamaChat(OllamaDialect):
    def start(self, body: Body, voice: Voice) -> Callable[[], list[Answer]] | None:
        if not body.get("messages"):
            return None
        check_able(body, voice)
        ask, wish = chat_of(body), wish_of(body, voice.sampling)
        return lambda: voice.assistant.answer(ask, wish)


class OllamaGenerate(OllamaDialect):
    def start(self, body: Body, voice: Voice) -> Callable[[], list[Answer]] | None:
        if not body.get("prompt"):
            return None
        wish = wish_of(body, voice.sampling)
        if body.get("raw") and body.get("system"):
            raise ApiError(400, "raw takes the prompt as it is: leave out system.", param="system")
        if body.get("raw") or not voice.assistant.template.has_chat:
            return lambda: voice.assistant.complete(body["prompt"], wish)
        check_able(body, voice)
        ask = text_of(body)
        return lambda: voice.assistant.answer(ask, wish)


def check_able(body: Body, voice: Voice) -> None:
    """In the words that clients look for."""
    if body.get("think") not in (None, False, "none") and not thinks(voice.assistant.template):
        raise ApiError(400, f'"{body["model"]}" does not support thinking', param="think")
    if body.get("tools") and not calls_tools(voice.assistant.template):
        raise ApiError(400, f'"{body["model"]}" does not support tools', param="tools")


def operation(name: str, summary: str, request: Json, schemas: Json) -> Operation:
    return Operation(name, summary, request, RETURNS, content_of(next(iter(schemas))), schemas, ERROR)


CHATTING = OllamaChat(
    "/api/chat", operation("ollamaChat", "Answer a conversation, in Ollama's words", CHAT, CHAT_SCHEMAS), LineEncoder
)
GENERATING = OllamaGenerate(
    "/api/generate",
    operation("ollamaGenerate", "Answer a prompt, in Ollama's words", GENERATE, TEXT_SCHEMAS),
    TextEncoder,
)
