"""/v1/completions: a text in, what goes on from it out."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...assistant import Assistant, Wish
from ...parts import Piece, Said, Token
from ...text.infill import InfillPrompt
from ..answering import Answering
from ..check import check
from ..dialect import Body, Job, Json, Operation, Voice, WantedModel
from ..echoed import EchoedAnswer
from ..errors import ApiError
from ..fields import ref
from .openai import FINISHES, LEAST, ChoiceEncoder, Framing, framing, wish
from .openai_answers import RETURNS, TEXT_ANSWERS, TEXT_CONTENT
from .openai_fields import COMPLETION, COMPLETION_TOKENS, MAX_ANSWERS

PATH = "/v1/completions"


class CompletionEncoder(ChoiceEncoder):
    path, id_prefix = PATH, "cmpl-"
    whole_object = stream_object = "text_completion"

    def __init__(self, framing: Framing, logprobs: bool, answers: int, echoes: Sequence[Echo] = ()) -> None:
        """`echoes`: what each answer begins with, its prompt."""
        super().__init__(framing)
        self._echoes = {index: echo.text for index, echo in enumerate(echoes)}
        starts = [echo.unseen for echo in echoes] or [0] * answers
        self._offsets = [Offsets(-unseen) for unseen in starts] if logprobs else None

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
            "token_logprobs": [None if unforetold(token) else max(token.logprob, LEAST) for token in tokens],
            "tokens": [spelled(token) for token in tokens],
            "top_logprobs": [None if unforetold(token) else likeliest(token) for token in tokens],
        }


class Offsets:
    """Where in the text a token begins, in characters; one that ends a character begins where that does."""

    def __init__(self, start: int = 0) -> None:
        """`start`: below 0 where the first tokens stand for letters that the text has not."""
        self._at = start
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: bytes) -> int:
        began = self._at
        self._at += len(self._utf8.decode(token))
        return max(began, 0)


@dataclass(frozen=True, slots=True)
class Echo:
    text: str
    unseen: int = 0  # letters that its tokens stand for before that


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
        most = COMPLETION_TOKENS if body.get("max_tokens") is None else body["max_tokens"]
        if most == 0 and not body.get("echo"):
            raise ApiError(400, "max_tokens must be at least 1, unless echo asks for the prompt.", param="max_tokens")
        asked = wish(body, voice.sampling, most, logprobs)
        asked = replace(asked, best_of=best_of)
        frames, ways = framing(body, voice.name), [way_of(prompt, body, voice.assistant) for prompt in prompts]
        echoes = [echo for prompt in prompts for echo in [echo_of(prompt, voice.assistant)] * count]

        def start() -> list[Answering]:
            return [answer for way in ways for answer in way(asked, count)]

        encoder = CompletionEncoder(frames, logprobs is not None, answers, echoes if body.get("echo") else ())
        return Job(start, answers, encoder, frames.stream)


def way_of(prompt: str | list[int], body: Body, assistant: Assistant) -> Callable[[Wish, int], Sequence[Answering]]:
    """How that prompt is gone on with."""
    suffix, echo = body.get("suffix"), bool(body.get("echo"))
    if echo and (body.get("logprobs") is not None or body.get("max_tokens") == 0):
        if suffix:
            raise ApiError(400, "suffix is not supported with echo and logprobs.", param="suffix")
        return lambda wish, count: echoed(prompt, assistant, wish, count)
    if not suffix:
        return lambda wish, count: assistant.complete(prompt, wish, count)
    if not isinstance(prompt, str):
        raise ApiError(400, "suffix is only allowed with a prompt that is text.", param="suffix")
    if assistant.infill is None:
        message = f"suffix is not supported: {assistant.name} was not taught to fill in."
        raise ApiError(400, message, param="suffix")
    between = InfillPrompt(prompt, suffix)
    return lambda wish, count: assistant.fill(between, wish, count)


def echoed(prompt: str | list[int], assistant: Assistant, wish: Wish, count: int) -> list[Answering]:
    """The prompt is read by itself, and once more where it is gone on with."""
    ids, top = assistant.raw_ids(prompt), wish.sampling.logprobs
    scored = None if top is None else assistant.score(ids, top)
    answers = assistant.complete(ids, wish, count) if wish.max_tokens else [None] * count
    return [EchoedAnswer(assistant, len(ids), scored, answer) for answer in answers]


def echo_of(prompt: str | list[int], assistant: Assistant) -> Echo:
    own = assistant.tokenizer
    if isinstance(prompt, str):
        before = own.decode(own.prefix, skip_special=False)
        return Echo(prompt, len(before) + own.strips_start)
    text = own.decode(prompt, skip_special=False, whole=True)
    return Echo(text, len(own.decode(prompt, skip_special=False)) - len(text))


def unforetold(token: Token) -> bool:
    """Whether it is the first of a prompt."""
    return math.isnan(token.logprob)


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
