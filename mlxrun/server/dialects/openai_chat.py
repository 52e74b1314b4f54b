"""/v1/chat/completions: a conversation in, messages out."""

from __future__ import annotations

from typing import Any

from ..assistant import Piece, TokenText
from .ask import LEAST, Ask, Body, Json, Voice, finish_of, streaming, wish
from .check import check
from .errors import ApiError
from .fields import CHAT


class ChatEncoder:
    id_prefix, whole_object, stream_object = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs

    def opening(self, index: int) -> Json | None:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def delta(self, index: int, piece: Piece) -> Json:
        delta = {}
        if piece.reasoning:
            delta["reasoning_content"] = piece.reasoning
        if piece.content:
            delta["content"] = piece.content
        return self._choice(index, piece, "delta", delta)

    def whole(self, index: int, piece: Piece) -> Json:
        message: Json = {"role": "assistant", "content": piece.content, "refusal": None}
        if piece.reasoning:
            message["reasoning_content"] = piece.reasoning
        return self._choice(index, piece, "message", message)

    def _choice(self, index: int, piece: Piece, name: str, said: Json) -> Json:
        logprobs = None
        if self._logprobs and (piece.tokens or name == "message"):
            logprobs = {"content": [described(token) for token in piece.tokens], "refusal": None}
        return {"index": index, name: said, "logprobs": logprobs, "finish_reason": finish_of(piece)}


class Chat:
    path, schema = "/v1/chat/completions", CHAT

    def read(self, body: Body, voice: Voice) -> Ask:
        check(body, CHAT)
        voice.check_name(body.get("model"))
        messages = [message_of(message) for message in body["messages"]]
        logprobs = wanted_logprobs(body)
        asked = wish(body, voice.sampling, limit_of(body), logprobs)
        template = dict(body.get("chat_template_kwargs") or {})
        effort = body.get("reasoning_effort")
        count = body.get("n") or 1
        stream, include_usage = streaming(body)
        assistant = voice.assistant
        if effort is not None:
            if not assistant.template.has_chat or "reasoning_effort" not in assistant.template.source():
                message = f"reasoning_effort is not supported: the chat template of {voice.name} makes no use of it."
                raise ApiError(400, message, param="reasoning_effort")
            template["reasoning_effort"] = effort
        return Ask(
            start=lambda: assistant.chat_many(messages, asked, count, **template),
            answers=count,
            per_prompt=count,
            encoder=ChatEncoder(logprobs is not None),
            stream=stream,
            include_usage=include_usage,
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


def described(token: TokenText) -> Json:
    return {**alone(token), "top_logprobs": [alone(other) for other in token.top]}


def alone(token: TokenText) -> Json:
    return {"token": token.text, "logprob": max(token.logprob, LEAST), "bytes": list(token.bytes)}
