"""/v1/chat/completions: a conversation in, messages out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...parts import Piece, Said, Thought, Token
from ..check import check
from ..dialect import Body, Job, Json, Operation, Voice, WantedModel
from ..errors import ApiError
from ..fields import ref
from .openai import FINISHES, LEAST, ChoiceEncoder, Framing, framing, wish
from .openai_answers import CHAT_ANSWERS, CHAT_CONTENT, RETURNS
from .openai_fields import CHAT

PATH = "/v1/chat/completions"


class ChatEncoder(ChoiceEncoder):
    path, id_prefix = PATH, "chatcmpl-"
    whole_object, stream_object = "chat.completion", "chat.completion.chunk"

    def __init__(self, framing: Framing, logprobs: bool) -> None:
        super().__init__(framing)
        self._logprobs = logprobs
        self._opened: set[int] = set()

    def deltas(self, index: int, piece: Piece) -> Iterator[Json]:
        if index not in self._opened:
            self._opened.add(index)
            yield self._delta(index, {"role": "assistant", "content": ""})
        *before, last = self._told(piece)
        for delta in before:
            yield self._delta(index, delta)
        yield self._choice(index, piece, "delta", last)

    def choice(self, index: int, piece: Piece) -> Json:
        message: Json = {"role": "assistant", "content": "", "refusal": None}
        for told in self._told(piece):
            for name, text in told.items():
                message[name] = message.get(name, "") + text
        return self._choice(index, piece, "message", message)

    def _told(self, piece: Piece) -> list[Json]:
        """The parts in as few deltas as keep their order: clients read the thoughts of one before its content."""
        deltas: list[Json] = [{}]
        for part in piece.parts:
            if not isinstance(part, Said | Thought):
                raise self.refuse(part)
            name = "content" if isinstance(part, Said) else "reasoning_content"
            if "content" in deltas[-1] or name in deltas[-1]:
                deltas.append({})
            deltas[-1][name] = part.text
        return deltas

    def _delta(self, index: int, delta: Json) -> Json:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _choice(self, index: int, piece: Piece, name: str, said: Json) -> Json:
        logprobs = None
        if self._logprobs and (piece.tokens or name == "message"):
            logprobs = {"content": [described(token) for token in piece.tokens], "refusal": None}
        return {"index": index, name: said, "logprobs": logprobs, "finish_reason": FINISHES[piece.finish]}


class ChatCompletions:
    path = PATH
    operation = Operation(
        name="chatCompletion",
        summary="Answer a conversation",
        request=CHAT,
        returns=RETURNS,
        content=CHAT_CONTENT,
        schemas=CHAT_ANSWERS,
        error=ref("Error"),
    )

    def error(self, error: ApiError) -> Json:
        return error.body

    def check(self, body: Body) -> WantedModel:
        check(body, CHAT)
        return WantedModel(body.get("model"))

    def read(self, body: Body, voice: Voice) -> Job:
        messages = [message_of(message) for message in body["messages"]]
        logprobs = wanted_logprobs(body)
        asked = wish(body, voice.sampling, limit_of(body), logprobs)
        template = dict(body.get("chat_template_kwargs") or {})
        effort = body.get("reasoning_effort")
        frames, count = framing(body, voice.name), body.get("n") or 1
        assistant = voice.assistant
        if effort is not None:
            if not assistant.template.has_chat or "reasoning_effort" not in assistant.template.source():
                message = f"reasoning_effort is not supported: the chat template of {voice.name} makes no use of it."
                raise ApiError(400, message, param="reasoning_effort")
            template["reasoning_effort"] = effort
        return Job(
            start=lambda: assistant.chat_many(messages, asked, count, **template),
            answers=count,
            encoder=ChatEncoder(frames, logprobs is not None),
            stream=frames.stream,
        )


def message_of(message: Body) -> dict[str, Any]:
    """As chat templates know it: the content is one text, and what was not said is not there."""
    content = message["content"]
    text = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
    role = "system" if message["role"] == "developer" else message["role"]
    more = {key: message[key] for key in ("name", "reasoning_content") if message.get(key) is not None}
    return {"role": role, "content": text, **more}


def wanted_logprobs(body: Body) -> int | None:
    top = body.get("top_logprobs")
    if body.get("logprobs"):
        return top or 0
    if top is not None:
        raise ApiError(400, "top_logprobs is only allowed with logprobs.", param="top_logprobs")
    return None


def limit_of(body: Body) -> int | None:
    older, newer = body.get("max_tokens"), body.get("max_completion_tokens")
    if older is not None and newer is not None and older != newer:
        raise ApiError(400, "max_tokens and max_completion_tokens differ; give one of them.", param="max_tokens")
    return older if newer is None else newer


def described(token: Token) -> Json:
    return {**alone(token), "top_logprobs": [alone(other) for other in token.top]}


def alone(token: Token) -> Json:
    return {"token": token.text, "logprob": max(token.logprob, LEAST), "bytes": list(token.bytes)}
