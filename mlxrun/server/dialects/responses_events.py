"""An answer as OpenAI's Responses tell it, whole or event by event. Knows no item's inside and no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...core import Finish, Usage
from ...parts import Piece
from ..dialect import Json
from ..errors import ApiError
from ..sse import MEDIA_TYPE, frame
from .responses_output import COMPLETED, INCOMPLETE, Event, Output, Telling, exhausted

Keep = Callable[[Json], None]
IN_PROGRESS_EVENT = "response.in_progress"
OPENING = ("response.created", IN_PROGRESS_EVENT)
SOON = "5"  # seconds


class ResponseEncoder:
    """`head`: the response as it is when it begins. `keep` is told the response that it became."""

    media_type = MEDIA_TYPE

    def __init__(self, head: Json, telling: Telling, keep: Keep | None) -> None:
        self._response, self._keep = dict(head), keep
        self._output = Output(telling)
        self._count = len(OPENING)  # whose numbers are theirs, whenever they are asked for

    def begin(self) -> bytes:
        told = {"response": self._response}
        return b"".join([numbered(kind, number, told) for number, kind in enumerate(OPENING)])

    def piece(self, index: int, piece: Piece) -> bytes:
        return self._frames(self._output.push(piece))

    def idle(self) -> bytes:
        """An event: Codex gives up after five minutes without one, and a comment is none."""
        return self._frames(((IN_PROGRESS_EVENT, {"response": self._response}),))

    def end(self, lasts: Sequence[Piece]) -> bytes:
        (last,) = lasts
        events = self._frames(self._output.end(status_of(last)))
        return events + self._last(f"response.{status_of(last)}", **self._ended(last))

    def failed(self, error: ApiError) -> bytes:
        code, message = worded(error)
        exhausted(self._output.end(INCOMPLETE))
        return self._last("response.failed", status="failed", error={"code": code, "message": message})

    def whole(self, pieces: Sequence[Piece]) -> Json:
        (piece,) = pieces
        exhausted(self._output.push(piece))
        exhausted(self._output.end(status_of(piece)))
        return self._became(**self._ended(piece))

    def _last(self, kind: str, **changes: Any) -> bytes:
        return self._frames(((kind, {"response": self._became(**changes)}),))

    def _became(self, **changes: Any) -> Json:
        self._response |= {"output": self._output.items, **changes}
        if self._keep is not None:
            self._keep(self._response)
        return self._response

    def _ended(self, last: Piece) -> Json:
        told: Json = {"status": status_of(last), "usage": None if last.usage is None else counted(last.usage)}
        if told["status"] == COMPLETED:
            return told | {"completed_at": int(time.time())}
        return told | {"incomplete_details": {"reason": "max_output_tokens"}}

    def _frames(self, events: Iterable[Event]) -> bytes:
        """One by one: an event tells what an item is now."""
        frames = []
        for kind, told in events:
            frames.append(numbered(kind, self._count, told))
            self._count += 1
        return b"".join(frames)


def numbered(kind: str, number: int, told: Json) -> bytes:
    return frame({"type": kind, "sequence_number": number, **told}, kind)


def status_of(last: Piece) -> str:
    return INCOMPLETE if last.finish is Finish.LENGTH else COMPLETED


def counted(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }


def worded(error: ApiError) -> tuple[str, str]:
    """Code and sentence, as agents read them: whether to send less, to wait, or to give up."""
    if error.code == "context_length_exceeded":
        return error.code, error.message
    if error.status in (429, 503):
        return "rate_limit_exceeded", f"{error.message} Please try again in {error.headers.get('retry-after', SOON)}s."
    return error.code or ("invalid_prompt" if error.status < 500 else "server_error"), error.message
