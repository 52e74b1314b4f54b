"""What went wrong, as one sentence with a status. `body` is OpenAI's shape of it, where no dialect has its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ..core import Finish, Refusal
from ..parts import Piece
from ..text.tokenizer import well_formed

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
ENDS_WELL = (None, Finish.STOP, Finish.LENGTH)
TOO_LONG = "context_length_exceeded"  # the code by which programs know to send less
LATER = {"retry-after": "5"}


class ApiError(Exception):
    tokens: tuple[int, int] | None = None  # of a prompt that is too long, and that it may have

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        line = " ".join(message.split())  # templates refuse in words of their own
        line = line if line.endswith((".", "!", "?")) else f"{line}."
        self.message, self.param = well_formed(line), None if param is None else well_formed(param)
        self.status, self.code = status, code
        self.headers = dict(headers or {})
        if status >= 500 and "retry-after" not in self.headers:
            self.headers["x-should-retry"] = "false"  # SDKs would ask twice more, and be told the same

    @property
    def body(self) -> dict[str, Any]:
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class NoSuchModel(ApiError):
    """`shown`: its name, quoted."""

    def __init__(self, shown: str, served: str) -> None:
        super().__init__(404, f"There is no model {shown} here; {served}.", param="model", code="model_not_found")
        self.shown = shown


def failure_of(piece: Piece) -> ApiError | None:
    """Why an answer did not end as an answer does."""
    if piece.finish in ENDS_WELL:
        return None
    reason = piece.reason or "The model gave no answer."
    if piece.refusal in (Refusal.BUSY, Refusal.QUEUE):
        status = 503 if piece.refusal is Refusal.BUSY else 429
        return ApiError(status, reason, headers=LATER if piece.retry_after is None else later(piece.retry_after))
    if piece.finish is Finish.EXPIRED:
        return ApiError(504, reason)
    if piece.refusal is Refusal.CONTEXT:
        return too_long(reason)
    if piece.finish is Finish.REFUSED or piece.refusal is Refusal.REQUEST:
        return ApiError(400, reason)
    if piece.finish is Finish.CANCELLED:
        return ApiError(503, piece.reason or "The server is stopping.", headers=LATER)
    return ApiError(500, reason)


def too_long(message: str, tokens: int | None = None, context: int | None = None) -> ApiError:
    """By its code programs know to send less; some read the numbers."""
    error = ApiError(400, message, code=TOO_LONG)
    error.tokens = None if tokens is None or context is None else (tokens, context - 1)
    return error


def later(seconds: float) -> dict[str, str]:
    return {"retry-after": str(math.ceil(seconds))}


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


def encode(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
