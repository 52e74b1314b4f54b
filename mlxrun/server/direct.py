"""What a loaded model answers at once and whole, without writing text: vectors, scores, ids. Knows no dialect."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..engine.registry import Keep
from . import left_out
from .body import read
from .check import Schema, check
from .dialect import Body, Json, Voice
from .errors import ApiError
from .exchange import ClientGone, while_there
from .generate import House, Reserved

Answer = Callable[[Body, Voice, House], Awaitable[Response]]
Understood = Callable[..., tuple[dict[str, Any], tuple[str, ...]]]  # as `left_out.understood`
GONE = 499  # nobody is there to read it


class OpenAIWords:
    def error(self, error: ApiError) -> Json:
        return error.body


def as_usual(_: Body) -> Keep:
    return "usual"


async def answered(
    request: Request,
    house: House,
    schema: Schema,
    answer: Answer,
    keep: Callable[[Body], Keep] = as_usual,
    *,
    understood: Understood = left_out.understood,
    limit: int | None = None,
) -> Response:
    """The body is read, settled and checked, and the model that it names leased for as long as `answer` takes; a
    client that leaves cancels it. `keep`: how long the model stays after it. `understood`: what the bytes mean, where
    they are no JSON. `limit`: of bytes, where it is no more than of others."""
    raw = await read(request, house.body_limit if limit is None else min(limit, house.body_limit))
    try:
        house = house.for_body(len(raw))
        told = partial(understood, raw, schema, strict=house.strict)
        del raw
        return await while_there(request.receive, _answered(request.url.path, told, house, schema, answer, keep))
    except ClientGone:
        return Response(status_code=GONE)


async def _answered(
    path: str,
    told: Callable[[], tuple[dict[str, Any], tuple[str, ...]]],
    house: House,
    schema: Schema,
    answer: Answer,
    keep: Callable[[Body], Keep],
) -> Response:
    def wanted() -> tuple[Body, tuple[str, ...], str]:
        body, unknown = told()
        check(body, schema)
        return body, unknown, house.models.name_of(body.get("model"))

    body, unknown, name = await house.aside(wanted)
    with Reserved(house):
        asked = time.perf_counter()
        lease = await house.models.lease(name, keep(body))
        try:
            response = await answer(body, replace(lease.model, waited=time.perf_counter() - asked), house)
        finally:
            lease.release()
    if unknown:
        left_out.log(path, unknown)
        response.headers[left_out.HEADER] = left_out.listed(unknown)
    return response
