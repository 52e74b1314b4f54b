"""/v1/responses: OpenAI's Responses. Items in, items out, and answers that later requests go on from."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from ...assistant import Wish
from ...turns import Ask, Role, Thinking, Turn
from ..check import check, shown
from ..dialect import Body, Job, Json, Operation, Voice, WantedModel
from ..errors import ApiError, encode
from ..fields import ref
from ..stored import StoredAnswers
from .openai import FLEX, wish
from .responses_answers import ANSWERS, CONTENT, RETURNS
from .responses_events import ResponseEncoder, worded
from .responses_fields import RESPONSE
from .responses_items import ItemReader
from .responses_output import Telling
from .responses_tools import Toolbox, choice_of, refuse_hosted, toolbox_of

PATH = "/v1/responses"
REFERENCE = "item_reference"
KINDS = {"message": "msg", "function_call": "fc", "custom_tool_call": "ctc", "reasoning": "rs", "compaction": "cmp"}
ECHOED = ("previous_response_id", "instructions", "max_output_tokens", "max_tool_calls", "user")
ECHOED_MORE = ("safety_identifier", "prompt_cache_key")


@dataclass(frozen=True, slots=True)
class Prompted:
    """What a request comes to before a model is asked."""

    ask: Ask
    box: Toolbox
    items: tuple[Json, ...]  # its own input, each with an id


class Responses:
    path = PATH
    operation = Operation(
        name="response",
        summary="Answer a conversation, in items",
        request=RESPONSE,
        returns=RETURNS,
        content=CONTENT,
        schemas=ANSWERS,
        error=ref("Error"),
    )

    def __init__(self, stored: StoredAnswers) -> None:
        self._stored = stored

    def error(self, error: ApiError) -> Json:
        return error_body(error)

    def check(self, body: Body) -> WantedModel:
        refuse_hosted(body.get("tool_choice"))
        check(body, RESPONSE)
        return WantedModel(body.get("model"))

    def read(self, body: Body, voice: Voice) -> Job:
        asked, wanted = asked_of(body, self._stored, voice.client), wish_of(body, voice)
        include = body.get("include") or ()
        reasoning = body.get("reasoning") or {}
        telling = Telling(
            asked.box.offered,
            summary=(reasoning.get("summary") or reasoning.get("generate_summary")) is not None,
            encrypted="reasoning.encrypted_content" in include,
            logprobs=wanted.sampling.logprobs is not None,
        )
        keeps, kept, ids = body.get("store") is not False, encode(asked.items), [item["id"] for item in asked.items]

        def keep(response: Json) -> None:
            self._stored.keep(response, kept, ids, voice.client)

        return Job(
            start=lambda: voice.assistant.answer(asked.ask, wanted),
            answers=1,
            encoder=ResponseEncoder(head_of(body, asked.box, wanted, voice.name), telling, keep if keeps else None),
            stream=bool(body.get("stream")),
            left_out=voice.assistant.left_out(asked.ask),
        )


def error_body(error: ApiError) -> Json:
    code, message = worded(error)
    told = error.body["error"]
    known = code in ("context_length_exceeded", "rate_limit_exceeded")
    return {"error": {**told, "message": message, "code": code} if known else told}


def wish_of(body: Body, voice: Voice) -> Wish:
    top, logprobs = body.get("top_logprobs"), "message.output_text.logprobs" in (body.get("include") or ())
    form = (body.get("text") or {}).get("format") or {}
    asked = {**body, "response_format": {"type": form.get("type"), "json_schema": form}} if form else body
    try:
        return wish(asked, voice.sampling, body.get("max_output_tokens"), (top or 0) if logprobs or top else None)
    except ApiError as error:
        if not (error.param or "").startswith("response_format"):
            raise
        named = "text.format.schema" if form.get("schema") is None else "text.format"
        message = error.message.replace(error.param or "", named)
        raise ApiError(error.status, message, param=named) from error


def asked_of(body: Body, stored: StoredAnswers, client: str = "") -> Prompted:
    given = body.get("input") or ()
    own: list[Json] = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    conversation = ItemReader(body.get("instructions"))
    before = earlier(body, stored, client)
    for item in before:
        conversation.add(item, "previous_response_id")
    near = {item["id"]: item for item in (*before, *own) if item.get("id") and item.get("type") != REFERENCE}
    items = [
        item if item.get("type") != REFERENCE else near.get(item["id"]) or kept_item(item, index, stored, client)
        for index, item in enumerate(own)
    ]
    for index, item in enumerate(items):
        conversation.add(item, f"input[{index}]")
    turns = conversation.finish()
    if not turns:
        raise ApiError(400, "input must hold something to answer.", param="input")
    told = [(f"tools[{index}]", tool) for index, tool in enumerate(body.get("tools") or ())]
    box = toolbox_of([*told, *conversation.tools])
    ask = Ask(turns, box.tools, choice_of(body, box), thinking_of(body), continues=goes_on(turns[-1]))
    return Prompted(ask, box, tuple(identified(item) for item in items))


def goes_on(last: Turn) -> bool:
    return last.role is Role.ASSISTANT and bool(last.content) and not last.calls


def earlier(body: Body, stored: StoredAnswers, client: str) -> list[Json]:
    """The items of the conversation before this request."""
    previous = body.get("previous_response_id")
    if previous is None:
        return []
    chain = stored.chain(previous, client)
    if chain is None:
        message = f"previous_response_id {shown(previous)} is not kept here, or one that it goes on from is not."
        raise ApiError(400, message, param="previous_response_id", code="previous_response_not_found")
    return [item for record in chain for item in (*record.asked(), *record.told()["output"])]


def kept_item(reference: Json, index: int, stored: StoredAnswers, client: str) -> Json:
    found = stored.item(reference["id"], client)
    if found is None:
        path = f"input[{index}].id"
        raise ApiError(400, f"{path} {shown(reference['id'])} is the id of no item that is kept.", param=path)
    return found


def identified(item: Json) -> Json:
    """As it is listed: with its type, an id, and a message's text as parts."""
    kind = item.get("type") or "message"
    told = {"id": f"{KINDS.get(kind, 'item')}_{secrets.token_hex(16)}", "status": "completed", **item, "type": kind}
    if kind == "message" and isinstance(item["content"], str):
        said = "output_text" if item["role"] == "assistant" else "input_text"
        more: Json = {"annotations": []} if item["role"] == "assistant" else {}
        told["content"] = [{"type": said, "text": item["content"], **more}]
    return told


def thinking_of(body: Body) -> Thinking:
    effort = (body.get("reasoning") or {}).get("effort")
    return Thinking(on=False if effort == "none" else None, effort=effort)


def head_of(body: Body, box: Toolbox, wanted: Wish, model: str) -> Json:
    """The response before anything was said; every key that clients know, null where there is nothing."""
    sampling, reasoning = wanted.sampling, body.get("reasoning") or {}
    return {
        "id": f"resp_{secrets.token_hex(24)}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "usage": None,
        **{name: body.get(name) for name in (*ECHOED, *ECHOED_MORE)},
        "metadata": body.get("metadata") or {},
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "text": {"format": format_told(body), "verbosity": "medium"},
        "tools": [told_tool(tool) for tool in box.told],
        "tool_choice": body.get("tool_choice") or "auto",
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_logprobs": sampling.logprobs or 0,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "truncation": body.get("truncation") or "disabled",
        "store": body.get("store") is not False,
        "background": False,
        "service_tier": FLEX if body.get("service_tier") == FLEX else "default",
    }


def format_told(body: Body) -> Json:
    form: Json = (body.get("text") or {}).get("format") or {"type": "text"}
    if form["type"] != "json_schema":
        return {"type": form["type"]}
    return {"name": "answer", "description": None, "strict": True, **form}


def told_tool(tool: Body) -> dict[str, Any]:
    if tool["type"] == "function":
        return {"description": None, "parameters": None, "strict": False, **tool}
    return dict(tool)
