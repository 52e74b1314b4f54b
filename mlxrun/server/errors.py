"""What went wrong, in the shape that clients of OpenAI's interface know: one object, one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ..text.tokenizer import well_formed

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
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
        self.message = line if line.endswith((".", "!", "?")) else f"{line}."
        self.status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        param = None if self.param is None else well_formed(self.param)
        return {"error": {"message": well_formed(self.message), "type": kind, "param": param, "code": self.code}}

    def response(self) -> Response:
        return JsonResponse(self.body, self.status, self.headers)


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


def encode(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
