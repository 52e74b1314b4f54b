"""What Ollama answers: lines of JSON, the last with what was counted and how long it took."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ...core import Finish
from ...parts import AnswerPart, Arguments, CallBegun, CallEnded, Media, Piece, Said, Thought, Token, name_of
from ..dialect import Json
from ..errors import ApiError, NoSuchModel
from ..ndjson import MEDIA_TYPE, line

NANO = 1_000_000_000
LEAST = -9999.0  # stands for minus infinity, which JSON has no number for


@dataclass(frozen=True)
class LineFraming:
    model: str
    load_seconds: float
    logprobs: bool = False
    nothing: str = "load"  # why there is no answer, where none was asked for


class LineEncoder:
    """Of chats. Calls are told whole: each in a line of its own, its arguments an object."""

    media_type = MEDIA_TYPE

    def __init__(self, framing: LineFraming) -> None:
        self._framing, self._began = framing, time.perf_counter()
        self._call: CallBegun | None = None
        self._arguments: list[str] = []

    def begin(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Piece) -> bytes:
        said = list(self._said(piece.parts))
        if piece.tokens and self._framing.logprobs:
            said = [*said[:-1], {**(said[-1] if said else {}), "logprobs": list(map(described, piece.tokens))}]
        return b"".join([line(self._line(part, done=False)) for part in said])

    def idle(self) -> bytes:
        return line(self._line({}, done=False))

    def end(self, lasts: Sequence[Piece]) -> bytes:
        return line({**self._line({}, done=True), **self._ended(lasts)})

    def failed(self, error: ApiError) -> bytes:
        return line(error_body(error))

    def whole(self, pieces: Sequence[Piece]) -> Json:
        told: Json = {}
        for piece in pieces:
            for said in self._said(piece.parts):
                for name, value in said.items():
                    told[name] = told[name] + value if name in told else value
            if self._framing.logprobs:
                told["logprobs"] = list(map(described, piece.tokens))
        return {**self._line(told, done=True), **self._ended(pieces)}

    def framed(self, said: Json) -> Json:
        """`said`: content, thinking, tool_calls, logprobs, as far as they are there."""
        logprobs = {"logprobs": said.pop("logprobs")} if "logprobs" in said else {}
        return {"message": {"role": "assistant", "content": "", **said}, **logprobs}

    def _line(self, said: Json, *, done: bool) -> Json:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"model": self._framing.model, "created_at": now, **self.framed({**said}), "done": done}

    def _said(self, parts: Iterable[AnswerPart]) -> Iterator[Json]:
        for part in parts:
            match part:
                case Said(text):
                    yield {"content": text}
                case Thought(text):
                    yield {"thinking": text}
                case CallBegun():
                    self._call, self._arguments = part, []
                case Arguments(text=text):
                    self._arguments.append(text)
                case CallEnded():
                    yield {"tool_calls": [self._called()]}
                case Media():
                    raise ApiError(500, f"The model wrote {name_of(part)}, and Ollama's words have no place for it.")

    def _called(self) -> Json:
        call = self._call
        assert call is not None
        arguments = json.loads("".join(self._arguments) or "{}")
        return {"id": call.id, "function": {"index": call.index, "name": call.name, "arguments": arguments}}

    def _ended(self, lasts: Sequence[Piece]) -> Json:
        total, load = time.perf_counter() - self._began, self._framing.load_seconds
        told: Json = {"done_reason": self._framing.nothing, "total_duration": nanos(total + load)}
        told["load_duration"] = nanos(load)
        for last in lasts:
            told["done_reason"] = "length" if last.finish is Finish.LENGTH else "stop"
            if (usage := last.usage) is not None:
                told["prompt_eval_count"], told["eval_count"] = usage.prompt_tokens, usage.output_tokens
                told["prompt_eval_duration"] = nanos(usage.prefill_seconds)
                told["eval_duration"] = nanos(usage.decode_seconds)
        return told


class TextEncoder(LineEncoder):
    """Of texts that go on."""

    def framed(self, said: Json) -> Json:
        return {"response": said.pop("content", ""), **said}


def nanos(seconds: float) -> int:
    return round(seconds * NANO)


def described(token: Token) -> Json:
    return {**alone(token), "top_logprobs": [alone(other) for other in token.top]}


def alone(token: Token) -> Json:
    return {"token": token.text, "logprob": max(token.logprob, LEAST), "bytes": list(token.bytes)}


def error_body(error: ApiError) -> Json:
    if isinstance(error, NoSuchModel):
        return {"error": f"model {error.shown} not found"}
    return {"error": error.message.removesuffix(".")}
