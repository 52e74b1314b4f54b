"""/v1/completions: a text in, what goes on from it out."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...assistant import Answer, Assistant, Wish
from ...parts import Piece, Said, Token
from ...text.infill import InfillPrompt
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

    def __init__(self, framing: Framing, logprobs: bool, answers: int, echoes: Sequence[str] = ()) -> None:
        """`echoes`: what each answer begins with, its prompt."""
        super().__init__(framing)
        self._echoes = dict(enumerate(echoes))
        self._offsets = [Offsets() for _ in range(answers)] if logprobs else None

    def deltas(self, index: int, piece: Piece) -> Iterator[Json]:
        yield self.choice(index, piece)

    def choice(self, index: int, piece: Piece) -> Json:
        for part in piece.parts:
            if not isinstance(part, Said):
                raise self.refuse(part)
        logprobs = None if self._offsets is None else self._described(index, piece.tokens)
        finish = FINISHES[piece.finish]
        text = self._echoes.pop(index, "") + piece.content
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

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
        frames, ways = framing(body, voice.name), [way_of(prompt, body, voice.assistant) for prompt in prompts]
        echoes = [text for prompt in prompts for text in [as_text(prompt, voice.assistant)] * count]

        def start() -> list[Answer]:
            return [answer for way in ways for answer in way(asked, count)]

        encoder = CompletionEncoder(frames, logprobs is not None, answers, echoes if body.get("echo") else ())
        return Job(start, answers, encoder, frames.stream)


def way_of(prompt: str | list[int], body: Body, assistant: Assistant) -> Callable[[Wish, int], list[Answer]]:
    """How that prompt is gone on with."""
    suffix = body.get("suffix")
    if body.get("echo") and body.get("logprobs") is not None:
        message = "echo with logprobs asks for log-probabilities of the prompt, which this server does not compute."
        raise ApiError(400, message, param="echo")
    if not suffix:
        return lambda wish, count: assistant.complete(prompt, wish, count)
    if not isinstance(prompt, str):
        raise ApiError(400, "suffix is only allowed with a prompt that is text.", param="suffix")
    if assistant.infill is None:
        message = f"suffix is not supported: {assistant.name} was not taught to fill in."
        raise ApiError(400, message, param="suffix")
    between = InfillPrompt(prompt, suffix)
    return lambda wish, count: assistant.fill(between, wish, count)


def as_text(prompt: str | list[int], assistant: Assistant) -> str:
    if isinstance(prompt, str):
        return prompt
    return assistant.tokenizer.decode(prompt, skip_special=False, whole=True)


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
