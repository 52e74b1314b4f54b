"""What is asked of responses that are kept, and what a prompt would take: answered at once.

What this server never does is told, not missing: it runs nothing in the background.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...turns import Ask
from .. import left_out
from ..body import read
from ..check import check, shown
from ..dialect import Json, Plain
from ..errors import ApiError, JsonResponse
from ..fields import TEXT, ref
from ..generate import House
from ..guard import CLIENT
from ..openapi import with_nulls
from ..stored import Record, StoredAnswers
from .responses import PATH, Responses, asked_of
from .responses_answers import COUNTED as COUNTED_ANSWER
from .responses_answers import DELETED, ITEM_LIST
from .responses_fields import COUNTED
from .responses_tools import refuse_hosted

USUAL_ITEMS, MOST_ITEMS = 20, 100
ID = {"name": "id", "in": "path", "required": True, "schema": TEXT}
ONE, ITEMS, TOKENS = f"{PATH}/{{id}}", f"{PATH}/{{id}}/input_items", f"{PATH}/input_tokens"
CANCEL = f"{PATH}/{{id}}/cancel"


def plains_of(stored: StoredAnswers, words: Responses) -> tuple[Plain, ...]:
    asks = Kept(stored)
    cancel = never("This response does not run in the background, so it cannot be cancelled; close its connection.")
    one = operation("response", "A response that is kept", ref("Response"))
    gone = operation("forget", "Forget a response", DELETED)
    items = operation("inputItems", "The items that a kept response answers", ITEM_LIST)
    tokens = operation("inputTokens", "How many tokens a request's prompt takes", COUNTED_ANSWER, COUNTED)
    cancelled = operation("cancelResponse", "Refused: nothing runs in the background", None)
    return (
        Plain(ONE, ("GET",), asks.one, words, {"get": one | {"parameters": [ID]}}),
        Plain(ONE, ("DELETE",), asks.delete, words, {"delete": gone | {"parameters": [ID]}}),
        Plain(ITEMS, ("GET",), asks.items, words, {"get": items | {"parameters": [ID, *PAGING]}}),
        Plain(TOKENS, ("POST",), asks.tokens, words, {"post": tokens}),
        Plain(CANCEL, ("POST",), cancel, words, {"post": cancelled | {"parameters": [ID]}}),
    )


class Kept:
    def __init__(self, stored: StoredAnswers) -> None:
        self._stored = stored

    async def one(self, request: Request, house: House) -> Response:
        if request.query_params.get("stream") == "true":
            raise ApiError(400, "stream is not supported here: a kept response is whole.", param="stream")
        record = await house.aside(lambda: self._found(request))
        return Response(record.response, media_type="application/json")

    async def delete(self, request: Request, house: House) -> Response:
        def forget() -> Json:
            self._found(request)
            self._stored.delete(request.path_params["id"], client_of(request))
            return {"id": request.path_params["id"], "object": "response", "deleted": True}

        return JsonResponse(await house.aside(forget))

    async def items(self, request: Request, house: House) -> Response:
        order, limit = request.query_params.get("order") or "desc", limit_of(request)
        if order not in ("asc", "desc"):
            raise ApiError(400, f"order must be one of 'asc', 'desc', not {shown(order)}.", param="order")

        def told() -> Json:
            record = self._found(request)
            chain = self._stored.chain(request.path_params["id"], client_of(request)) or [record]
            before = [item for one in chain[:-1] for item in (*one.asked(), *one.told()["output"])]
            items = [*before, *record.asked()]
            return page(items if order == "asc" else items[::-1], limit, request.query_params.get("after"))

        return JsonResponse(await house.aside(told))

    async def tokens(self, request: Request, house: House) -> Response:
        raw = await read(request, house.body_limit)

        def asked() -> tuple[Ask, str, tuple[str, ...]]:
            body, names = left_out.understood(raw, COUNTED, strict=house.strict)
            refuse_hosted(body.get("tool_choice"))
            check(body, COUNTED)
            return asked_of(body, self._stored, client_of(request)).ask, house.models.name_of(body.get("model")), names

        ask, name, names = await house.aside(asked)
        lease = await house.models.lease(name)
        try:
            count = await house.aside(lambda: lease.model.assistant.count(ask))
        finally:
            lease.release()
        headers = {left_out.HEADER: left_out.listed(names)} if names else None
        return JsonResponse({"object": "response.input_tokens", "input_tokens": count}, headers=headers)

    def _found(self, request: Request) -> Record:
        name = request.path_params["id"]
        record = self._stored.find(name, client_of(request))
        if record is None:
            raise ApiError(404, f"The response {shown(name)} is not kept here.", param="id")
        return record


def client_of(request: Request) -> str:
    return str(request.scope.get(CLIENT, ""))


def page(items: list[Json], limit: int, after: str | None) -> Json:
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise ApiError(400, f"after must be the id of one of the items, not {shown(after)}.", param="after")
    start = 0 if after is None else ids.index(after) + 1
    shown_items, names = items[start : start + limit], ids[start : start + limit]
    first, last = (names[0], names[-1]) if names else (None, None)
    more = len(items) > start + limit
    return {"object": "list", "data": shown_items, "first_id": first, "last_id": last, "has_more": more}


def limit_of(request: Request) -> int:
    given = request.query_params.get("limit") or str(USUAL_ITEMS)
    limit = int(given) if given.isascii() and given.isdigit() and len(given) <= 4 else 0
    if not 1 <= limit <= MOST_ITEMS:
        message = f"limit must be a whole number from 1 to {MOST_ITEMS}, not {shown(given)}."
        raise ApiError(400, message, param="limit")
    return limit


def never(message: str) -> Callable[[Request, House], Any]:
    async def refuse(request: Request, house: House) -> Response:
        raise ApiError(400, message)

    return refuse


def query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema}


PAGING = (
    query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_ITEMS}),
    query("order", {"enum": ["asc", "desc"]}),
    query("after", TEXT),
)


def operation(name: str, summary: str, answer: Json | None, body: Json | None = None) -> Json:
    error = {"description": "It is refused in one sentence.", "content": json_of(ref("Error"))}
    good = {} if answer is None else {"200": {"description": summary, "content": json_of(answer)}}
    told: Json = {"operationId": name, "summary": summary, "responses": {**good, "4XX": error, "5XX": error}}
    if body is not None:
        told["requestBody"] = {"required": True, "content": json_of(with_nulls(body))}
    return told


def json_of(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
