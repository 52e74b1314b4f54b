"""/v1/responses/compact: a conversation made shorter, for programs that keep it themselves.

The model that is asked sums it up. What comes back is what people said, word for word, and one item that carries the
summary; both are sent as the next input.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

from ...assistant import Wish
from ...parts import Piece, Said
from ...turns import Role, Thinking, ToolChoice, Turn
from ..check import check
from ..dialect import Body, Job, Json, Operation, Voice, WantedModel
from ..errors import ApiError
from ..fields import COUNT, TEXT, fixed, listed, record, ref
from ..stored import StoredAnswers
from .responses import PATH, Prompted, asked_of, earlier, error_body, identified
from .responses_answers import ITEM, USAGE
from .responses_events import counted
from .responses_fields import ASKED, IGNORED
from .responses_items import carried

MOST = 2048  # tokens of a summary, thoughts among them
SUM_UP = (
    "Sum this conversation up, so that you can go on with it from your summary alone: what was asked for, what was "
    "decided, done and found out, with every name, path, number and wording that matters, and what is left to do. "
    "Write the summary and nothing else."
)
PASSED_OVER = ("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "service_tier", "image")
COMPACT = fixed(
    "model",
    **{name: ASKED[name] for name in ("model", "input", "instructions", "previous_response_id")},
    **{name: IGNORED[name] for name in PASSED_OVER},
)
ANSWER = record(id=TEXT, object={"enum": ["response.compaction"]}, created_at=COUNT, output=listed(ITEM), usage=USAGE)


class CompactResponse:
    path = f"{PATH}/compact"
    operation = Operation(
        name="compactResponse",
        summary="A conversation, summed up by the model",
        request=COMPACT,
        returns="What people said, and an item that stands for everything else.",
        content={"application/json": {"schema": ANSWER}},
        schemas={},
        error=ref("Error"),
    )

    def __init__(self, stored: StoredAnswers) -> None:
        self._stored = stored

    def error(self, error: ApiError) -> Json:
        return error_body(error)

    def check(self, body: Body) -> WantedModel:
        check(body, COMPACT)
        if body.get("model") is None:
            raise ApiError(400, "model must name who sums the conversation up.", param="model")
        return WantedModel(body["model"])

    def read(self, body: Body, voice: Voice) -> Job:
        asked = asked_of(body, self._stored, voice.client)
        before = tuple(identified(item) for item in earlier(body, self._stored, voice.client))
        turns = (*asked.ask.turns, Turn(Role.USER, (SUM_UP,)))
        ask = replace(
            asked.ask, turns=turns, tools=(), choice=ToolChoice(), continues=False, thinking=Thinking(on=False)
        )
        wanted = Wish(max_tokens=MOST, sampling=voice.sampling)
        return Job(
            start=lambda: voice.assistant.answer(ask, wanted),
            answers=1,
            encoder=Compaction(replace(asked, items=(*before, *asked.items))),
            stream=False,
        )


class Compaction:
    """Whole: what streams is never asked of it."""

    media_type = "application/json"

    def __init__(self, asked: Prompted) -> None:
        self._said = [item for item in asked.items if item["type"] == "message" and item["role"] == "user"]

    def whole(self, pieces: Sequence[Piece]) -> Json:
        (piece,) = pieces
        summary = "".join(part.text for part in piece.parts if isinstance(part, Said)).strip()
        if not summary:
            raise ApiError(500, "The model summed nothing up; ask again, or send fewer items.")
        item = {"type": "compaction", "id": f"cmp_{secrets.token_hex(16)}", "encrypted_content": carried(summary)}
        return {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": [*self._said, item],
            "usage": None if piece.usage is None else counted(piece.usage),
        }

    def begin(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Piece) -> bytes:
        return b""

    def idle(self) -> bytes:
        return b""

    def end(self, lasts: Sequence[Piece]) -> bytes:
        return b""

    def failed(self, error: ApiError) -> bytes:
        return b""
