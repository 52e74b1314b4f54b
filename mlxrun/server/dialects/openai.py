"""What OpenAI's two dialects have in common: how sampling is asked for, choices, usage and the frame of a stream."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ... import __version__
from ...assistant import BREAKERS, Wish
from ...core import NUMBERS, Finish, Priority, Sampling, Usage
from ...parts import AnswerPart, Piece, name_of
from ..dialect import Body, Json
from ..errors import ApiError
from ..sse import MEDIA_TYPE, STILL_HERE, frame
from .openai_constraints import constraint_of

FINISHES = {None: None, Finish.STOP: "stop", Finish.LENGTH: "length"}
MIROSTAT_TAU = 5.0
LEAST = -9999.0  # stands for minus infinity, which JSON has no number for
FLEX = "flex"  # the service tier that waits where others are in a hurry
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Framing:
    """What all chunks of one request have in common."""

    model: str
    stream: bool
    include_usage: bool  # at the end of a stream
    per_prompt: int  # answers


class ChoiceEncoder(ABC):
    """Choices in chunks that all have the same head; a stream ends with [DONE], unless it broke off."""

    media_type = MEDIA_TYPE
    path: str
    id_prefix: str
    whole_object: str
    stream_object: str

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._usage = {"usage": None} if framing.include_usage else {}  # of every chunk but the last
        self._head = {
            "id": f"{self.id_prefix}{secrets.token_hex(12)}",
            "object": self.stream_object if framing.stream else self.whole_object,
            "created": int(time.time()),
            "model": framing.model,
            "system_fingerprint": f"mlxrun-{__version__}",
        }

    @abstractmethod
    def deltas(self, index: int, piece: Piece) -> Iterator[Json]:
        """The choices that tell a piece of a stream."""

    @abstractmethod
    def choice(self, index: int, piece: Piece) -> Json:
        """A whole answer."""

    def begin(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Piece) -> bytes:
        return b"".join([frame({**self._head, "choices": [told], **self._usage}) for told in self.deltas(index, piece)])

    def idle(self) -> bytes:
        return STILL_HERE

    def end(self, lasts: Sequence[Piece]) -> bytes:
        if not self._framing.include_usage:
            return DONE
        return frame({**self._head, "choices": [], "usage": self._counted(lasts)}) + DONE

    def failed(self, error: ApiError) -> bytes:
        return frame(error.body)

    def whole(self, pieces: Sequence[Piece]) -> Json:
        choices = [self.choice(index, piece) for index, piece in enumerate(pieces)]
        return {**self._head, "choices": choices, "usage": self._counted(pieces)}

    def refuse(self, part: AnswerPart) -> ApiError:
        return ApiError(500, f"The model wrote {name_of(part)}, and {self.path} has no place for it.")

    def _counted(self, lasts: Sequence[Piece]) -> Json:
        return counted([piece.usage for piece in lasts if piece.usage is not None], self._framing.per_prompt)


def wish(body: Body, sampling: Sampling, max_tokens: int | None, logprobs: int | None) -> Wish:
    given = {name: body[name] for name in NUMBERS if body.get(name) is not None}
    given["mirostat_tau"] = given.get("mirostat_tau", MIROSTAT_TAU) if body.get("mirostat") else 0.0
    if given.get("top_p") == 0:  # nothing but the likeliest is left
        given |= {"top_p": 1.0, "temperature": 0}
    bias = tuple((int(token), value) for token, value in (body.get("logit_bias") or {}).items())
    stop, breakers = body.get("stop") or (), body.get("dry_sequence_breakers")
    return Wish(
        max_tokens=max_tokens,
        sampling=replace(sampling, **given, bias=bias, logprobs=logprobs),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        constraint=constraint_of(body),
        dry_breakers=BREAKERS if breakers is None else tuple(breakers),
        priority=priority_of(body),
    )


def priority_of(body: Body) -> Priority:
    return Priority.BATCH if body.get("service_tier") == FLEX else Priority.INTERACTIVE


def framing(body: Body, model: str) -> Framing:
    stream, options = bool(body.get("stream")), body.get("stream_options")
    if options is not None and not stream:
        raise ApiError(400, "stream_options is only allowed with stream.", param="stream_options")
    return Framing(model, stream, bool((options or {}).get("include_usage")), body.get("n") or 1)


def counted(usages: Sequence[Usage], per_prompt: int) -> Json:
    """A prompt counts once, however many answers it gets."""
    prompts = usages[::per_prompt]
    read, written = sum(u.prompt_tokens for u in prompts), sum(u.output_tokens for u in usages)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(u.cached_tokens for u in prompts)},
        "completion_tokens_details": {"reasoning_tokens": sum(u.reasoning_tokens for u in usages)},
    }
