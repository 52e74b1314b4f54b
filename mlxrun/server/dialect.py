"""What a dialect makes of a request: how to start the answers, and how to write them down.

Here is also what the dialects read alike. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..assistant import Answer, Assistant, Piece, Wish
from ..core import Finish, Refusal, Sampling, Usage
from .check import shown
from .errors import ApiError

Body = Mapping[str, Any]
Json = dict[str, Any]
FINISHES = {Finish.STOP: "stop", Finish.LENGTH: "length"}
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "seed")
LEAST = -9999.0  # stands for minus infinity, which JSON has no number for


class Encoder(Protocol):
    """Choices of one request, in a dialect's words; it remembers what it must between pieces."""

    id_prefix: str
    whole_object: str
    stream_object: str

    def opening(self, index: int) -> Json | None:
        """What a stream begins with, before anything of that answer is there."""

    def delta(self, index: int, piece: Piece) -> Json:
        """A piece of a stream."""

    def whole(self, index: int, piece: Piece) -> Json:
        """A whole answer, joined to one piece."""


@dataclass(frozen=True)
class Ask:
    start: Callable[[], list[Answer]]  # renders, tokenizes, submits: not for the event loop's thread
    answers: int
    per_prompt: int
    encoder: Encoder
    stream: bool
    include_usage: bool


@dataclass(frozen=True)
class Voice:
    """Who answers, under which name, and how where a request does not say."""

    assistant: Assistant
    name: str
    sampling: Sampling

    def check_name(self, asked: str | None) -> None:
        if asked is not None and asked != self.name:
            message = f"There is no model {shown(asked)} here; {self.name!r} is served."
            raise ApiError(404, message, param="model", code="model_not_found")


class Dialect(Protocol):
    path: str
    schema: Json

    def read(self, body: Body, voice: Voice) -> Ask: ...


def wish(body: Body, sampling: Sampling, max_tokens: int | None, logprobs: int | None) -> Wish:
    given = {name: body[name] for name in SAMPLING if body.get(name) is not None}
    stop = body.get("stop") or ()
    return Wish(
        max_tokens=max_tokens,
        sampling=replace(sampling, **given, logprobs=logprobs),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def streaming(body: Body) -> tuple[bool, bool]:
    """(whether to stream, whether to tell the usage at the end of it)."""
    stream, options = bool(body.get("stream")), body.get("stream_options")
    if options is not None and not stream:
        raise ApiError(400, "stream_options is only allowed with stream.", param="stream_options")
    return stream, bool((options or {}).get("include_usage"))


def finish_of(piece: Piece) -> str | None:
    """How a choice ended; raises where it did not end as an answer does."""
    if piece.finish is None or piece.finish in FINISHES:
        return piece.finish and FINISHES[piece.finish]
    reason = piece.reason or "The model gave no answer."
    if piece.refusal is Refusal.BUSY:
        raise ApiError(503, reason, headers={"retry-after": "5"})
    if piece.refusal is Refusal.CONTEXT:
        raise ApiError(400, reason, code="context_length_exceeded")  # by which programs know to send less
    if piece.finish is Finish.REFUSED:
        raise ApiError(400, reason)
    if piece.finish is Finish.CANCELLED:
        raise ApiError(503, piece.reason or "The server is stopping.", headers={"retry-after": "5"})
    raise ApiError(500, reason)


def joined(pieces: Sequence[Piece]) -> Piece:
    """Several pieces of one answer as one: reasoning never comes after content, so nothing changes places."""
    if len(pieces) == 1:
        return pieces[0]
    last = pieces[-1]
    return replace(
        last,
        content="".join(piece.content for piece in pieces),
        reasoning="".join(piece.reasoning for piece in pieces),
        tokens=tuple(token for piece in pieces for token in piece.tokens),
    )


def counted(usages: Sequence[Usage], per_prompt: int) -> Json:
    """A prompt counts once, however many answers it gets."""
    prompts = usages[::per_prompt]
    read, written = sum(u.prompt_tokens for u in prompts), sum(u.output_tokens for u in usages)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(u.cached_tokens for u in prompts)},
    }
