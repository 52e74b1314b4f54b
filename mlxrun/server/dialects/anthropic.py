"""/v1/messages and /v1/messages/count_tokens: Anthropic's Messages, as its SDKs and Claude Code speak them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...assistant import Answer, Wish
from ...core import Constraint, Sampling, Shape
from ..check import check
from ..dialect import Body, Job, Operation, Plain, Voice, WantedModel
from ..direct import answered
from ..errors import ApiError, JsonResponse
from ..fields import COUNT, record
from ..generate import House
from ..openapi import post
from .anthropic_ask import ask_of, left_out_of
from .anthropic_events import REQUEST_ID, MessageEncoder, MessageFraming, error_response, new_id
from .anthropic_fields import CONTENT, COUNT_TOKENS, ERROR, MESSAGES, SCHEMAS

PATH = "/v1/messages"


class Messages:
    path = PATH
    operation = Operation(
        name="createMessage",
        summary="Answer a conversation, in Anthropic's words",
        request=MESSAGES,
        returns="The message; with stream, its events.",
        content=CONTENT,
        schemas=SCHEMAS,
        error=ERROR,
    )

    def error(self, error: ApiError) -> Response:
        return error_response(error)

    def check(self, body: Body) -> WantedModel:
        check(body, MESSAGES)
        return WantedModel(body.get("model"))

    def read(self, body: Body, voice: Voice) -> Job:
        ask, wish, assistant = ask_of(body), wish_of(body, voice.sampling), voice.assistant
        hidden = (body.get("thinking") or {}).get("display") == "omitted"
        request_id = new_id("req")
        encoder = MessageEncoder(
            MessageFraming(body.get("model") or voice.name, request_id, body["max_tokens"], hidden)
        )

        def start() -> list[Answer]:
            answers = assistant.answer(ask, wish)
            encoder.prompt_tokens = answers[0].prompt_tokens
            return answers

        return Job(
            start,
            answers=1,
            encoder=encoder,
            stream=bool(body.get("stream")),
            left_out=(*left_out_of(body), *assistant.left_out(ask)),
            headers={REQUEST_ID: request_id},
        )


def wish_of(body: Body, sampling: Sampling) -> Wish:
    given: dict[str, Any] = {
        name: body[name] for name in ("temperature", "top_p", "top_k") if body.get(name) is not None
    }
    if given.get("top_p") == 0:  # nothing but the likeliest is left
        given |= {"top_p": 1.0, "temperature": 0}
    config = body.get("output_config") or {}
    form = config.get("format") or body.get("output_format")
    return Wish(
        max_tokens=body["max_tokens"],
        sampling=replace(sampling, **given),
        stop=tuple(body.get("stop_sequences") or ()),
        constraint=None if form is None else Constraint(Shape.JSON_SCHEMA, json.dumps(form["schema"])),
    )


async def count_tokens(request: Request, house: House) -> Response:
    async def answer(body: Body, voice: Voice, house: House) -> Response:
        tokens = await house.aside(lambda: voice.assistant.count(ask_of(body)))
        return JsonResponse({"input_tokens": tokens}, headers={REQUEST_ID: new_id("req")})

    return await answered(request, house, COUNT_TOKENS, answer)


MESSAGES_DIALECT = Messages()
COUNTING = Operation(
    name="countTokens",
    summary="Count the tokens of a prompt, in Anthropic's words",
    request=COUNT_TOKENS,
    returns="As many as the usage of an answer to it says.",
    content={"application/json": {"schema": record(input_tokens=COUNT)}},
    schemas={},
    error=ERROR,
)
COUNT_PLAIN = Plain(
    f"{PATH}/count_tokens", ("POST",), count_tokens, MESSAGES_DIALECT, {"post": post(COUNTING, Sampling())}
)
