"""/openapi.json, from the very schemas that requests are checked against. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from .. import __version__
from ..core import Memory, Sampling
from .ask import Dialect, Json

ABOUT = (
    "Language models on this machine, in the words of OpenAI's interface. A field that would change the answer "
    "and is not honoured is an error that names it."
)
COUNT = {"type": "integer", "minimum": 0}
TEXT, NUMBER = {"type": "string"}, {"type": "number"}


def document(dialects: Sequence[Dialect], defaults: Sampling) -> Json:
    paths: Json = {}
    for dialect in dialects:
        name = {"/v1/chat/completions": "ChatCompletion", "/v1/completions": "Completion"}[dialect.path]
        paths[dialect.path] = {"post": _post(name, with_nulls(with_defaults(dialect.schema, defaults)))}
    model = {"name": "id", "in": "path", "required": True, "schema": TEXT}
    paths["/v1/models"] = {"get": _get("models", "The model that is served", _ref("ModelList"))}
    paths["/v1/models/{id}"] = {
        "get": _get("model", "That model, if it is served", _ref("Model")) | {"parameters": [model]}
    }
    health = _object(status=TEXT, server={"const": "mlxrun"}, model=TEXT)
    paths["/health"] = {"get": _get("health", "Whether requests are answered", health)}
    memory = _object(**{field.name: COUNT for field in fields(Memory)})
    paths["/memory"] = {"get": _get("memory", "Bytes that weights and sequences take, and what is free", memory)}
    metrics = _get("metrics", "Counters and times, in Prometheus' text form", TEXT, "text/plain")
    paths["/metrics"] = {"get": metrics}
    return {
        "openapi": "3.2.0",  # the first that can say what the events of a stream are
        "info": {"title": "mlxrun", "version": __version__, "description": ABOUT},
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def with_defaults(schema: Json, defaults: Sampling) -> Json:
    properties = dict(schema["properties"])
    for name, value in asdict(defaults).items():
        if name in properties and name != "logprobs" and value is not None:
            properties[name] = {**properties[name], "default": value}
    return {**schema, "properties": properties}


def with_nulls(schema: Any) -> Any:
    """What may be left out may also be null, and this says so."""
    if isinstance(schema, list):
        return [with_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    known = {key: value if key in ("enum", "default") else with_nulls(value) for key, value in schema.items()}
    if isinstance(properties := schema.get("properties"), dict):
        required = schema.get("required", ())
        known["properties"] = {
            name: with_nulls(inner) if name in required else _or_null(with_nulls(inner))
            for name, inner in properties.items()
        }
    return known


def _or_null(schema: Json) -> Json:
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], *([] if None in schema["enum"] else [None])]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def _post(name: str, schema: Json) -> Json:
    answer = {"application/json": {"schema": _ref(name)}, "text/event-stream": {"itemSchema": _event(f"{name}Chunk")}}
    return {
        "operationId": name[0].lower() + name[1:],
        "summary": {"ChatCompletion": "Answer a conversation", "Completion": "Go on with a text"}[name],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": "The answer; with stream, chunks of it and then [DONE].", "content": answer},
            **ERRORS,
        },
    }


def _event(name: str) -> Json:
    """One event of a stream: a chunk, an error where it breaks off, or the sign that it is over."""
    told = {"anyOf": [_ref(name), _ref("Error")]}
    chunk = {"type": "string", "contentMediaType": "application/json", "contentSchema": told}
    return {"anyOf": [_object(data={"const": "[DONE]"}), _object(data=chunk)]}


def _get(name: str, summary: str, schema: Json, media: str = "application/json") -> Json:
    found = {"description": summary, "content": {media: {"schema": schema}}}
    return {"operationId": name, "summary": summary, "responses": {"200": found, **ERRORS}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


FINISH = {"enum": ["stop", "length"]}
USAGE = _object(
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
    prompt_tokens_details=_object(cached_tokens=COUNT),
)
TOKEN = _object(token=TEXT, logprob=NUMBER, bytes=_list(COUNT))
CHAT_TOKEN = _object(**TOKEN["properties"], top_logprobs=_list(TOKEN))
CHAT_LOGPROBS = _object(content=_list(CHAT_TOKEN), refusal={"type": "null"})
MESSAGE = _object(role={"enum": ["assistant"]}, content=TEXT, refusal={"type": "null"})
MESSAGE["properties"]["reasoning_content"] = {"type": "string", "description": "What the model thought first."}
TEXT_LOGPROBS = _object(
    text_offset=_list(COUNT),
    token_logprobs=_list(NUMBER),
    tokens=_list(TEXT),
    top_logprobs=_list({"type": "object", "additionalProperties": NUMBER}),
)
MODEL = _object(id=TEXT, object={"enum": ["model"]}, created=COUNT, owned_by=TEXT, context_length=COUNT)


def _answer(kind: str, choice: Json) -> Json:
    head = {"id": TEXT, "object": {"enum": [kind]}, "created": COUNT, "model": TEXT, "system_fingerprint": TEXT}
    return _object(**head, choices=_list(choice), usage=USAGE)


def _chunk(kind: str, choice: Json) -> Json:
    """As an answer; the usage comes in the last one, where it was asked for."""
    whole = _answer(kind, choice)
    properties = {**whole["properties"], "usage": _maybe(USAGE)}
    return {**whole, "properties": properties, "required": [name for name in properties if name != "usage"]}


CHOICE = {"index": COUNT, "finish_reason": FINISH}
DELTA = {"type": "object", "properties": MESSAGE["properties"], "additionalProperties": False}
CHUNK_CHOICE = {"index": COUNT, "finish_reason": _maybe(FINISH)}
CHAT_CHUNK = _object(**CHUNK_CHOICE, delta=DELTA, logprobs=_maybe(CHAT_LOGPROBS))
TEXT_CHUNK = _object(**CHUNK_CHOICE, text=TEXT, logprobs=_maybe(TEXT_LOGPROBS))
SCHEMAS: Json = {
    "ChatCompletionChunk": _chunk("chat.completion.chunk", CHAT_CHUNK),
    "CompletionChunk": _chunk("text_completion", TEXT_CHUNK),
    "ChatCompletion": _answer("chat.completion", _object(**CHOICE, message=MESSAGE, logprobs=_maybe(CHAT_LOGPROBS))),
    "Completion": _answer("text_completion", _object(**CHOICE, text=TEXT, logprobs=_maybe(TEXT_LOGPROBS))),
    "Model": MODEL,
    "ModelList": _object(object={"enum": ["list"]}, data=_list(_ref("Model"))),
    "Error": _object(error=_object(message=TEXT, type=TEXT, param=_maybe(TEXT), code=_maybe(TEXT))),
}
ERRORS: Json = {
    status: {"description": about, "content": {"application/json": {"schema": _ref("Error")}}}
    for status, about in {
        "4XX": "The request is wrong; one sentence says how, and `param` names the field.",
        "5XX": "The server is at fault, or stopping.",
    }.items()
}
