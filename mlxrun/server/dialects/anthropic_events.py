"""What Anthropic's Messages answers: the events of a stream in their order, a whole message, what was counted, errors.

An answer is a list of blocks (text, thinking, tool_use) that are opened and closed one after the other.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core import Finish, Usage
from ...parts import AnswerPart, Arguments, CallAnswered, CallBegun, CallEnded, Media, Piece, Said, Thought, name_of
from ..dialect import Json
from ..errors import ApiError, JsonResponse
from ..sse import MEDIA_TYPE, frame

REQUEST_ID = "request-id"
OURS = "mlxrun1."  # a signature of ours, and before the thoughts that it carries
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
OVERLOADED = 529  # where others say 503
TOO_LONG = "prompt is too long"  # by which Claude Code knows to make its conversation shorter


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def signature_of(thoughts: str) -> str:
    """Clients hand it back unread: thoughts that are not shown travel in it."""
    return OURS + base64.b64encode(thoughts.encode()).decode()


def thoughts_in(signature: str) -> str:
    """What a signature of ours carries; of anybody else's nothing."""
    try:
        return base64.b64decode(signature.removeprefix(OURS)).decode() if signature.startswith(OURS) else ""
    except ValueError:
        return ""


@dataclass(frozen=True)
class MessageFraming:
    model: str
    request_id: str
    limit: int | None  # tokens that the request allows
    hidden: bool = False  # thoughts are not shown


@dataclass
class OpenBlock:
    index: int
    kind: type[AnswerPart]
    thoughts: list[str] = field(default_factory=list)


class MessageEncoder:
    media_type = MEDIA_TYPE

    def __init__(self, framing: MessageFraming) -> None:
        self._framing, self._id = framing, new_id("msg")
        self.prompt_tokens = 0  # known once it is tokenized
        self._open: OpenBlock | None = None
        self._blocks = self._calls = 0

    def begin(self) -> bytes:
        usage = {**NOTHING_COUNTED, "input_tokens": self.prompt_tokens}
        return event("message_start", message=self._message([], None, None, usage))

    def piece(self, index: int, piece: Piece) -> bytes:
        return b"".join([self._told(part) for part in piece.parts])

    def idle(self) -> bytes:
        return event("ping")

    def end(self, lasts: Sequence[Piece]) -> bytes:
        (last,) = lasts
        delta = {"stop_reason": self._reason(last), "stop_sequence": last.stop}
        return self._close() + event("message_delta", delta=delta, usage=counted(last.usage)) + event("message_stop")

    def failed(self, error: ApiError) -> bytes:
        return frame(error_body(error, self._framing.request_id), "error")

    def whole(self, pieces: Sequence[Piece]) -> Json:
        (piece,) = pieces
        blocks = blocks_of(piece.parts, self._framing.hidden)
        self._calls = sum(block["type"] == "tool_use" for block in blocks)
        return self._message(blocks, self._reason(piece), piece.stop, counted(piece.usage))

    def _message(self, blocks: list[Json], reason: str | None, stop: str | None, usage: Json) -> Json:
        head = {"id": self._id, "type": "message", "role": "assistant", "model": self._framing.model}
        return {**head, "content": blocks, "stop_reason": reason, "stop_sequence": stop, "usage": usage}

    def _told(self, part: AnswerPart) -> bytes:
        match part:
            case Said(text):
                return self._within(Said, {"type": "text", "text": ""}) + self._delta("text_delta", text=text)
            case Thought(text):
                return self._thought(text)
            case CallBegun(id=call, name=name):
                self._calls += 1
                return self._close() + self._begin(CallBegun, tool_use(call, name, {}))
            case Arguments(text=text):
                return self._delta("input_json_delta", partial_json=text)
            case CallEnded():
                return self._close()
            case CallAnswered() | Media():
                raise no_place(part)

    def _thought(self, text: str) -> bytes:
        opened = self._within(Thought, {"type": "thinking", "thinking": "", "signature": ""})
        assert self._open is not None
        self._open.thoughts.append(text)
        return opened + (b"" if self._framing.hidden else self._delta("thinking_delta", thinking=text))

    def _within(self, kind: type[AnswerPart], block: Json) -> bytes:
        """A block of that kind is open: the one that is, or a new one."""
        if self._open is not None and self._open.kind is kind:
            return b""
        return self._close() + self._begin(kind, block)

    def _begin(self, kind: type[AnswerPart], block: Json) -> bytes:
        self._open = OpenBlock(self._blocks, kind)
        self._blocks += 1
        return event("content_block_start", index=self._open.index, content_block=block)

    def _delta(self, kind: str, **said: str) -> bytes:
        assert self._open is not None
        return event("content_block_delta", index=self._open.index, delta={"type": kind, **said})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        signed = b""
        if self._open.kind is Thought:
            hidden = "".join(self._open.thoughts) if self._framing.hidden else ""
            signed = self._delta("signature_delta", signature=signature_of(hidden))
        index, self._open = self._open.index, None
        return signed + event("content_block_stop", index=index)

    def _reason(self, last: Piece) -> str:
        if last.stop is not None:
            return "stop_sequence"
        if last.finish is Finish.LENGTH:
            limit, usage = self._framing.limit, last.usage
            reached = limit is None or usage is None or usage.output_tokens >= limit
            return "max_tokens" if reached else "model_context_window_exceeded"
        return "tool_use" if self._calls else "end_turn"


def event(kind: str, **told: Any) -> bytes:
    return frame({"type": kind, **told}, kind)


def tool_use(call: str, name: str, arguments: Mapping[str, Any]) -> Json:
    return {"type": "tool_use", "id": call, "name": name, "input": arguments}


def blocks_of(parts: Iterable[AnswerPart], hidden: bool) -> list[Json]:
    """A call that the answer's end cut off is none: its arguments are no object."""
    blocks: list[Json] = []
    call: CallBegun | None = None
    arguments: list[str] = []
    for part in parts:
        match part:
            case Said(text):
                blocks.append({"type": "text", "text": text})
            case Thought(text):
                shown, carried = ("", text) if hidden else (text, "")
                blocks.append({"type": "thinking", "thinking": shown, "signature": signature_of(carried)})
            case CallBegun():
                call, arguments = part, []
            case Arguments(text=text):
                arguments.append(text)
            case CallEnded():
                assert call is not None
                blocks.append(tool_use(call.id, call.name, json.loads("".join(arguments) or "{}")))
            case CallAnswered() | Media():
                raise no_place(part)
    return blocks


def no_place(part: AnswerPart) -> ApiError:
    return ApiError(500, f"The model wrote {name_of(part)}, and /v1/messages has no place for it.")


NOTHING_COUNTED = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
    "output_tokens_details": {"thinking_tokens": 0},
}


def counted(usage: Usage | None) -> Json:
    """What was read from a cache counts apart."""
    if usage is None:
        return dict(NOTHING_COUNTED)
    read, cached = usage.prompt_tokens, usage.cached_tokens
    told = {"input_tokens": read - cached, "cache_read_input_tokens": cached, "output_tokens": usage.output_tokens}
    return {**NOTHING_COUNTED, **told, "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens}}


def too_long(tokens: int, most: int) -> ApiError:
    return ApiError(400, f"{TOO_LONG}: {tokens} tokens > {most} maximum", code="context_length_exceeded")


def error_body(error: ApiError, request_id: str) -> Json:
    message = error.message if error.tokens is None else too_long(*error.tokens).message
    if error.code == "context_length_exceeded":  # clients look for these very words
        message = message.removesuffix(".") if message.startswith(TOO_LONG) else f"{TOO_LONG}: {message}"
    kind = KINDS.get(status_of(error), "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def status_of(error: ApiError) -> int:
    return OVERLOADED if error.status == 503 else error.status


def error_response(error: ApiError) -> JsonResponse:
    request_id = new_id("req")
    headers = {**error.headers, REQUEST_ID: request_id}
    return JsonResponse(error_body(error, request_id), status_of(error), headers)
