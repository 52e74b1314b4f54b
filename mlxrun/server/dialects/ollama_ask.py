"""Bodies of Ollama's chats and texts to an `Ask` and a `Wish`, and how long a model stays after them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...assistant import Wish
from ...core import Constraint, Sampling, Shape
from ...engine.registry import Keep
from ...turns import Ask, Call, Content, Role, Thinking, Tool, Turn
from ..check import shown
from ..dialect import Body
from ..errors import ApiError
from ..pictures import from_base64
from ..tools import checked

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
TIME = re.compile(r"([+-]?)((?:\d{1,12}(?:\.\d{0,9})?(?:ns|us|µs|ms|s|m|h|))+)", re.ASCII)
PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h|)", re.ASCII)
LOOKS_BACK = 64  # tokens, where a request does not say
MIROSTAT_TAU = 5.0
NUMBERS = ("temperature", "top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty", "mirostat_eta")
SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


def keep_of(asked: float | str | None) -> Keep:
    if asked is None:
        return "usual"
    seconds = seconds_of(asked) if isinstance(asked, str) else float(asked)
    return None if seconds < 0 else seconds


def seconds_of(text: str) -> float:
    found = TIME.fullmatch(text.strip())
    if found is None:
        message = f"keep_alive must be seconds or a time such as 30s, 5m or 1h30m, not {shown(text)}."
        raise ApiError(400, message, param="keep_alive")
    seconds = sum(float(count) * UNITS[unit] for count, unit in PART.findall(found[2]))
    return -seconds if found[1] == "-" else seconds


def chat_of(body: Body) -> Ask:
    turns = tuple(turns_of(body.get("messages") or ()))
    tools = tools_of(body)
    return Ask(turns, tools, thinking=thinking_of(body), continues=goes_on(turns))


def goes_on(turns: Sequence[Turn]) -> bool:
    return bool(turns) and turns[-1].role is Role.ASSISTANT and not turns[-1].calls


def text_of(body: Body) -> Ask:
    """A prompt without `raw`: a conversation of one message."""
    system = [Turn(Role.SYSTEM, (body["system"],))] if body.get("system") else []
    user = Turn(Role.USER, (body["prompt"], *pictures_of(body.get("images"), "images")))
    return Ask((*system, user), thinking=thinking_of(body))


def turns_of(messages: Sequence[Body]) -> Iterator[Turn]:
    """Results name their call by its id, or its tool by its name, or come in the order of the calls."""
    waiting: list[Call] = []
    for index, message in enumerate(messages):
        role, path = Role(message["role"]), f"messages[{index}]"
        content: tuple[Content, ...] = (message.get("content") or "",)
        content += tuple(pictures_of(message.get("images"), f"{path}.images"))
        if role is Role.TOOL:
            call = answered(message, waiting)
            name = message.get("tool_name") or message.get("name") or (call.name if call else None)
            yield Turn(role, content, answers=message.get("tool_call_id") or (call.id if call else None), name=name)
            continue
        calls = tuple(calls_of(message.get("tool_calls") or (), index))
        waiting += calls
        yield Turn(role, content, thoughts=message.get("thinking") or None, calls=calls)


def calls_of(calls: Sequence[Body], message: int) -> Iterator[Call]:
    for index, call in enumerate(calls):
        function = call["function"]
        arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
        yield Call(call.get("id") or f"call_{message}_{index}", function["name"], arguments)


def answered(message: Body, waiting: list[Call]) -> Call | None:
    """Of the calls that wait for a result the one that this is the result of; it waits no longer."""
    id_, name = message.get("tool_call_id"), message.get("tool_name") or message.get("name")
    fits = [call for call in waiting if id_ in (None, call.id) and name in (None, call.name)]
    if not fits:
        return None
    waiting.remove(fits[0])
    return fits[0]


def pictures_of(images: Sequence[str] | None, path: str) -> Iterator[Content]:
    for index, text in enumerate(images or ()):
        picture = from_base64("image/png", text, f"{path}[{index}]")
        kinds = (kind for begins, kind in SIGNATURES.items() if picture.data.startswith(begins))
        yield replace(picture, type=next(kinds, "application/octet-stream"))


def tools_of(body: Body) -> tuple[Tool, ...]:
    told = [tool["function"] for tool in body.get("tools") or ()]
    tools = []
    for function in told:
        tool = Tool(function["name"], function.get("description") or "", strict=bool(function.get("strict")))
        given = function.get("parameters")
        tools.append(tool if given is None else replace(tool, parameters={"type": "object", "properties": {}, **given}))
    return checked(tools, [f"tools[{index}].function.name" for index in range(len(told))])


def thinking_of(body: Body) -> Thinking:
    think = body.get("think")
    if think is None:
        return Thinking()
    if isinstance(think, bool):
        return Thinking(on=think, demanded=think)
    return Thinking(on=think != "none", effort=think, demanded=think != "none")


def wish_of(body: Body, usual: Sampling) -> Wish:
    options: dict[str, Any] = {name: value for name, value in (body.get("options") or {}).items() if value is not None}
    stop, most, form = options.get("stop") or (), options.get("num_predict", 0), body.get("format")
    constraint = None
    if form:
        schema = {"type": "object"} if form == "json" else form
        constraint = Constraint(Shape.JSON_SCHEMA, json.dumps(schema))
    return Wish(
        max_tokens=most if most > 0 else None,
        sampling=replace(usual, **sampled(options), logprobs=logprobs_of(body)),
        stop=tuple(text for text in ((stop,) if isinstance(stop, str) else stop) if text),
        constraint=constraint,
    )


def sampled(options: Body) -> dict[str, Any]:
    """The fields of a `Sampling` that Ollama's options name."""
    given = {name: options[name] for name in NUMBERS if name in options}
    if given.get("top_p") == 0:  # nothing but the likeliest is left
        given |= {"top_p": 1.0, "temperature": 0}
    if "top_k" in options:
        given["top_k"] = max(0, options["top_k"])
    if options.get("seed", -1) >= 0:
        given["seed"] = options["seed"]
    if options.get("mirostat"):
        given["mirostat_tau"] = options.get("mirostat_tau", MIROSTAT_TAU)
    if "repeat_penalty" in options or "repeat_last_n" in options:
        back = options.get("repeat_last_n", LOOKS_BACK)
        given["repeat_last_n"] = max(0, back)
        if "repeat_penalty" in options:
            given["repetition_penalty"] = options["repeat_penalty"]
        if back == 0:
            given["repetition_penalty"] = 1.0
    return given


def logprobs_of(body: Body) -> int | None:
    return (body.get("top_logprobs") or 0) if body.get("logprobs") else None
