"""/v1/completions: a text in, what goes on from it out."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...assistant import Answer
from ...parts import Piece, Said, Token
from ..check import check
from ..dialect import Body, Job, Json, Operation, Voice, WantedModel
from ..errors import ApiError
from ..fields import ref
from .openai import FINISHES, LEAST, ChoiceEncoder, Framing, framing, wish
from .openai_answers import RETURNS, TEXT_ANSWERS, TEXT_CONTENT
from .openai_fields import COMPLETION, COMPLETION_TOKENS, MAX_ANSWERS

PATH = "/v1/completions"


class CompletionEncoder(ChoiceEncoder):
    path, id_prefix = PATH, "cmpl-"
    whole_object = stream_object = "text_completion"

    def __init__(self, framing: Framing, logprobs: bool, answers: int) -> None:
        super().__init__(framing)
        self._offsets = [Offsets() for _ in range(answers)] if logprobs else None

    def deltas(self, index: int, piece: Piece) -> Iterator[Json]:
        yield self.choice(index, piece)

    def choice(self, index: int, piece: Piece) -> Json:
        for part in piece.parts:
            if not isinstance(part, Said):
                raise self.refuse(part)
        logprobs = None if self._offsets is None else self._described(index, piece.tokens)
        finish = FINISHES[piece.finish]
        return {"index": index, "text": piece.content, "logprobs": logprobs, "finish_reason": finish}

    def _described(self, index: int, tokens: tuple[Token, ...]) -> Json:
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
    path = PATH
    operation = Operation(
        name="completion",
        summary="Go on with a text",
        request=COMPLETION,
        returns=RETURNS,
        content=TEXT_CONTENT,
        schemas=TEXT_ANSWERS,
        error=ref("Error"),
    )

    def error(self, error: ApiError) -> Json:
        return error.body

    def check(self, body: Body) -> WantedModel:
        check(body, COMPLETION)
        return WantedModel(body.get("model"))

    def read(self, body: Body, voice: Voice) -> Job:
        prompts, count = prompts_of(body["prompt"]), body.get("n") or 1
        answers = len(prompts) * count
        if answers > MAX_ANSWERS:
            message = f"{len(prompts)} prompts with n = {count} ask for {answers} answers; at most {MAX_ANSWERS}."
            raise ApiError(400, message, param="n")
        best_of = body.get("best_of") or count
        if best_of < count or (best_of > count and body.get("stream")):
            message = f"best_of must be at least n ({count}), and larger than n only without stream."
            raise ApiError(400, message, param="best_of")
        logprobs = body.get("logprobs")
        asked = wish(body, voice.sampling, body.get("max_tokens") or COMPLETION_TOKENS, logprobs)
        asked = replace(asked, best_of=best_of)
        frames = framing(body, voice.name)

        def start() -> list[Answer]:
            return [answer for prompt in prompts for answer in voice.assistant.complete(prompt, asked, count)]

        return Job(start, answers, CompletionEncoder(frames, logprobs is not None, answers), frames.stream)


def prompts_of(prompt: Any) -> list[Any]:
    """One text or list of ids stands for itself; else they are many."""
    return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt


def spelled(token: Token) -> str:
    """A token that is no text of its own shows its bytes."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


def likeliest(token: Token) -> dict[str, float]:
    """The likeliest tokens, and the chosen one among them in any case."""
    return {spelled(other): max(other.logprob, LEAST) for other in (*token.top, token)}
