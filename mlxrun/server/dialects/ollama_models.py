"""What Ollama's clients ask besides answers: its version, which models there are and what they can do, to fetch one.

Models are managed with `mlxrun`, not over HTTP: what would copy, make, send or remove one is refused, and so is what
would fetch one, unless the server was started to allow it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ...core import Sampling
from .. import left_out
from ..body import read
from ..capabilities import ModelCard, capabilities
from ..check import Schema, check
from ..dialect import Body, Json, Operation, Plain
from ..direct import GONE
from ..errors import ApiError, JsonResponse
from ..exchange import ClientGone, while_there
from ..fields import COUNT, TEXT, fixed, flag, listed, record, text
from ..generate import House
from ..models import LATEST, Models
from ..ndjson import MEDIA_TYPE, line
from ..openapi import post
from ..pulls import Pulls
from .ollama_answers import error_body
from .ollama_fields import DETAILS, ERROR

VERSION = "0.17.6"  # the protocol's, not ours: programs refuse to speak with an older one
FOR_EVER = datetime(2318, 1, 1, tzinfo=UTC)
STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
Handler = Callable[[Request, House], Awaitable[Response]]
NAMED = {"model": text("One that GET /api/tags names."), "name": text("The older name of model.")}
SHOW = fixed(**NAMED, verbose=flag(), system=text(), template=text())
PULL = fixed(**NAMED, stream=flag(), insecure=flag())


class OllamaWords:
    def error(self, error: ApiError) -> Json:
        return error_body(error)


WORDS = OllamaWords()


async def version(_: Request, __: House) -> Response:
    return JsonResponse({"version": VERSION})


async def tags(_: Request, house: House) -> Response:
    def told() -> Json:
        return {"models": [tag(house.models, name) for name in house.models.names()]}

    return JsonResponse(await house.aside(told))


async def running(_: Request, house: House) -> Response:
    def told() -> Json:
        return {
            "models": [loaded(house.models, state) for state in house.models.loaded() if state["state"] == "loaded"]
        }

    return JsonResponse(await house.aside(told))


async def show(request: Request, house: House) -> Response:
    body = await body_of(request, house, SHOW)
    return JsonResponse(await house.aside(lambda: shown_of(house.models, name_in(body, house.models))))


async def pull(request: Request, house: House) -> Response:
    body = await body_of(request, house, PULL)
    steps = pulled(await house.aside(lambda: missing(body, house)), house.pulls)
    if body.get("stream") is not False:
        return StreamingResponse(in_lines(steps), media_type=MEDIA_TYPE)

    async def all_of_them() -> Json:
        async with aclosing(steps):
            return [step async for step in steps][-1]

    try:
        return JsonResponse(await while_there(request.receive, all_of_them()))
    except ClientGone:
        return Response(status_code=GONE)


def missing(body: Body, house: House) -> str | None:
    """The model's name, where it is not here and may be fetched."""
    try:
        name_in(body, house.models)
    except ApiError as error:
        if error.status != 404:
            raise
        if house.pulls is None:
            message = "this server fetches no models for its clients: fetch it with mlxrun pull and serve it"
            raise ApiError(403, f"{message}, or start the server with --allow-pull") from error
        return str(body.get("model") or body.get("name")).removesuffix(LATEST)
    return None


async def pulled(name: str | None, pulls: Pulls | None) -> AsyncGenerator[Json, None]:
    """What Ollama's programs are told while it comes; they add up what has a digest."""
    yield {"status": "pulling manifest"}
    if name is not None and pulls is not None:
        async with aclosing(pulls.fetched(name)) as steps:
            async for step in steps:
                digest = step.pop("digest") or name
                yield {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", **step}
    yield {"status": "success"}


async def in_lines(steps: AsyncGenerator[Json, None]) -> AsyncIterator[bytes]:
    """The status is sent: an error is a line."""
    async with aclosing(steps):
        try:
            async for step in steps:
                yield line(step)
        except ApiError as error:
            yield line(error_body(error))


async def removal(_: Request, __: House) -> Response:
    raise ApiError(403, "this server removes no models for its clients: remove it with mlxrun rm")


async def unknown(_: Request, __: House) -> Response:
    raise ApiError(501, "models are made and sent with mlxrun, not over HTTP")


async def body_of(request: Request, house: House, schema: Schema) -> Body:
    raw = await read(request, house.body_limit)

    def checked() -> Body:
        body, _ = left_out.understood(raw, schema, strict=house.strict)
        check(body, schema)
        return body

    return await house.aside(checked)


def name_in(body: Body, models: Models) -> str:
    asked = body.get("model") or body.get("name")
    if not asked:
        raise ApiError(400, "model is required", param="model")
    return models.name_of(asked)


def tag(models: Models, name: str) -> Json:
    card = models.card(models.base(name))
    told = {"name": name, "model": name, "modified_at": modified(card), "size": card.facts.bytes if card else 0}
    told |= {"digest": card.facts.digest if card else "", "details": details(card)}
    return {**told, "capabilities": can(models, name, card)}


def loaded(models: Models, state: Json) -> Json:
    told, goes = tag(models, state["name"]), state["unloads_in_seconds"]
    expires = FOR_EVER if goes is None else datetime.now(UTC) + timedelta(seconds=goes)
    voice = next((voice for voice in models.voices() if voice.name == state["name"]), None)
    told |= {"size": state["bytes"], "size_vram": state["bytes"], "expires_at": stamp(expires)}
    return {**told, "context_length": voice.assistant.engine.context if voice else 0}


def shown_of(models: Models, name: str) -> Json:
    card = models.card(models.base(name))
    template = card.template if card else template_of(models, name)
    family = card.facts.family if card else ""
    info: Json = {"general.architecture": family, "general.basename": name}
    if card is not None:
        info |= {"general.parameter_count": card.facts.parameters, f"{family}.context_length": card.facts.context}
    told: Json = {"modelfile": "", "parameters": "", "template": ""}
    if template is not None and template.has_chat:
        told["template"] = template.source()
    told |= {"details": details(card), "model_info": info, "capabilities": can(models, name, card)}
    return {**told, "modified_at": modified(card)}


def template_of(models: Models, name: str) -> Any:
    return next((voice.assistant.template for voice in models.voices() if voice.name == name), None)


def can(models: Models, name: str, card: ModelCard | None) -> list[str]:
    if card is not None:
        return [] if card.facts.ranks else capabilities(card.template, card.speaks)
    template = template_of(models, name)
    return ["completion"] if template is None else capabilities(template)


def details(card: ModelCard | None) -> Json:
    told: Json = {"parent_model": "", "format": "", "family": "", "families": [], "parameter_size": ""}
    if card is None:
        return {**told, "quantization_level": ""}
    facts = card.facts
    told |= {"format": facts.format, "family": facts.family, "families": [facts.family]}
    return {**told, "parameter_size": counted(facts.parameters), "quantization_level": facts.quantization}


def counted(parameters: int) -> str:
    for size, letter in STEPS:
        if parameters >= size:
            return f"{parameters / size:.1f}{letter}"
    return ""


def modified(card: ModelCard | None) -> str:
    return stamp(datetime.fromtimestamp(card.facts.modified if card else 0, UTC))


def stamp(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


MODEL = record(name=TEXT, model=TEXT, modified_at=TEXT, size=COUNT, digest=TEXT, details=DETAILS)
SHOWN = record(template=TEXT, details=DETAILS, model_info={"type": "object"}, capabilities=listed(TEXT))


def described(name: str, summary: str, answer: Json) -> Json:
    good = {"description": summary, "content": {"application/json": {"schema": answer}}}
    bad = {"description": "A sentence says what is wrong.", "content": {"application/json": {"schema": ERROR}}}
    return {"operationId": name, "summary": summary, "responses": {"200": good, "4XX": bad, "5XX": bad}}


def posted(name: str, summary: str, request: Json, answer: Json) -> Json:
    content = {"application/json": {"schema": answer}}
    return {"post": post(Operation(name, summary, request, summary, content, {}, ERROR), Sampling())}


def reading(path: str, answer: Handler, name: str, summary: str, schema: Json) -> Plain:
    return Plain(path, ("GET",), answer, WORDS, {"get": described(name, summary, schema)})


def refused(path: str, answer: Handler, *methods: str) -> Plain:
    """Not in the document: what it promises is there."""
    return Plain(path, methods, answer, WORDS, {})


OLLAMA_PLAINS = (
    reading("/api/version", version, "ollamaVersion", "Ollama's protocol that is spoken", record(version=TEXT)),
    reading("/api/tags", tags, "ollamaTags", "The models that are served", record(models=listed(MODEL))),
    reading("/api/ps", running, "ollamaRunning", "The models that are loaded", record(models=listed(MODEL))),
    Plain("/api/show", ("POST",), show, WORDS, posted("ollamaShow", "What a model is and can do", SHOW, SHOWN)),
    Plain(
        "/api/pull",
        ("POST",),
        pull,
        WORDS,
        posted(
            "ollamaPull", "Says that a model is here, or fetches it with serve --allow-pull", PULL, record(status=TEXT)
        ),
    ),
    refused("/api/delete", removal, "DELETE"),
    refused("/api/copy", unknown, "POST"),
    refused("/api/create", unknown, "POST"),
    refused("/api/push", unknown, "POST"),
    refused("/api/blobs/{digest}", unknown, "POST", "HEAD"),
)
