"""/v1/completions: a text in, what goes on from it out."""

from __future__ import annotations

import codecs
from typing import Any

from ..assistant import Answer, Piece, TokenText
from .ask import LEAST, Ask, Body, Json, Voice, finish_of, streaming, wish
from .check import check
from .errors import ApiError
from .fields import COMPLETION, COMPLETION_TOKENS, MAX_ANSWERS


class CompletionEncoder:
    id_prefix, whole_object, stream_object = "cmpl-", "text_completion", "text_completion"

    def __init__(self, logprobs: bool, answers: int) -> None:
        self._offsets = [Offsets() for _ in range(answers)] if logprobs else None

    def opening(self, index: int) -> Json | None:
        return None

    def delta(self, index: int, piece: Piece) -> Json:
        return self.whole(index, piece)

    def whole(self, index: int, piece: Piece) -> Json:
        logprobs = None if self._offsets is None else self._described(index, piece.tokens)
        return {"index": index, "text": piece.content, "logprobs": logprobs, "finish_reason": finish_of(piece)}

    def _described(self, index: int, tokens: tuple[TokenText, ...]) -> Json:
        offsets = self._offsets[index] if self._offsets else Offsets()
        return {
            "text_offset": [offsets.push(token.bytes) for token in tokens],
            "token_logprobs": [max(token.logprob, LEAST) for token in tokens],
            "tokens": [spelled(token) for token in tokens],
            "top_logprobs": [likeliest(token) for token in tokens],
        }


class Offsets:
    """Where in the text a token begins, in characters; one that ends a character begins where that does."""

    def __init__(self) -> None:
        self._at = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: bytes) -> int:
        began = self._at
        self._at += len(self._utf8.decode(token))
        return began


class Completions:
    path, schema = "/v1/completions", COMPLETION

    def read(self, body: Body, voice: Voice) -> Ask:
        check(body, COMPLETION)
        voice.check_name(body.get("model"))
        prompts, count = prompts_of(body["prompt"]), body.get("n") or 1
        answers = len(prompts) * count
        if answers > MAX_ANSWERS:
            message = f"{len(prompts)} prompts with n = {count} ask for {answers} answers; at most {MAX_ANSWERS}."
            raise ApiError(400, message, param="n")
        if body.get("best_of") not in (None, count):
            raise ApiError(400, "best_of is not supported by this server; leave it out.", param="best_of")
        logprobs = body.get("logprobs")
        asked = wish(body, voice.sampling, body.get("max_tokens") or COMPLETION_TOKENS, logprobs)
        stream, include_usage = streaming(body)

        def start() -> list[Answer]:
            return [answer for prompt in prompts for answer in voice.assistant.complete(prompt, asked, count)]

        return Ask(start, answers, count, CompletionEncoder(logprobs is not None, answers), stream, include_usage)


def prompts_of(prompt: Any) -> list[Any]:
    """One text or list of ids stands for itself; else they are many."""
    return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt


def spelled(token: TokenText) -> str:
    """A token that is no text of its own shows its bytes."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


def likeliest(token: TokenText) -> dict[str, float]:
    """The likeliest tokens, and the chosen one among them in any case."""
    return {spelled(other): max(other.logprob, LEAST) for other in (*token.top, token)}
