"""/openapi.json, from the very schemas that requests are checked against. Knows no dialect and no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from .. import __version__
from ..core import Memory, Sampling
from .check import UNSET
from .dialect import Dialect, Json, Operation, Plain
from .fields import COUNT, TEXT, fixed, flag, listed, maybe, number, record, ref, text, whole

ABOUT = (
    "Language models on this machine, in the words of OpenAI's interface. A field that would change the answer "
    "and is not honoured is an error that names it; one that is not known is left out, and the header "
    "x-mlxrun-left-out names it."
)
ERROR = record(error=record(message=TEXT, type=TEXT, param=maybe(TEXT), code=maybe(TEXT)))  # see ApiError.body
USED = record(  # loading.used.Used
    kernels=text("what multiplies, in words"),
    mapped=whole("bytes of weights that are pages of files", minimum=0),
    files=whole("how many files these are pages of", minimum=0),
    own=whole("bytes of weights in memory of the process's own", minimum=0),
    why_not_mapped=maybe(text("why weights are not mapped that could have been")),
    wired=maybe(whole("bytes that the system may not page out", minimum=0)),
    why_not_wired=maybe(text("why not, or why not more")),
    wiring_failed=flag("whether wiring was wanted, and this machine is one for it"),
    key_bits=maybe(whole("of keys and values that are remembered in pages", minimum=1)),
    refused=listed(text("a kernel that did not do what it was chosen for")),
)
TOLD = ("description", "default")
STATES = ("unloaded", "loading", "loaded")
MODEL = record(id=TEXT, object={"enum": ["model"]}, created=COUNT, owned_by=TEXT, state={"enum": list(STATES)})
MODEL["properties"]["parent"] = text("of an adapter, the model that it changes")
MODEL["properties"]["context_length"] = whole("tokens that it has, or could have if it were loaded", minimum=0)
LOADED = record(  # server.models.told_of
    name=TEXT,
    state={"enum": list(STATES[1:])},
    requests=whole("that use it or wait for it", minimum=0),
    pinned=flag("whether it stays whatever happens"),
    bytes=maybe(whole("that it holds", minimum=0)),
    used=maybe(USED),
    idle_seconds=maybe(number("since its last use")),
    unloads_in_seconds=maybe(number("until it goes by itself")),
)
NAMED = fixed("model", model=text("One that GET /v1/models names."))
ANSWERED: Json = {"application/json": {"schema": record(success=flag("False: it was not loaded."))}}
SCHEMAS: Json = {
    "Model": MODEL,
    "ModelList": record(object={"enum": ["list"]}, data=listed(ref("Model"))),
    "Error": ERROR,
}


def document(dialects: Sequence[Dialect], plains: Sequence[Plain], defaults: Sampling) -> Json:
    paths: Json = {dialect.path: {"post": post(dialect.operation, defaults)} for dialect in dialects}
    for plain in plains:
        if plain.described:  # else it is another path of the same
            paths.setdefault(plain.path, {}).update(plain.described)
    model = {"name": "id", "in": "path", "required": True, "schema": TEXT}
    paths["/v1/models"] = {"get": get("models", "The models that are served", ref("ModelList"))}
    paths["/v1/models/{id}"] = {
        "get": get("model", "That model, if it is served", ref("Model")) | {"parameters": [model]}
    }
    loads = Operation(
        "loadModel", "Load a model, and answer when it is there", NAMED, "It is.", ANSWERED, {}, ref("Error")
    )
    unloads = Operation(
        "unloadModel", "Unload a model once nobody uses it", NAMED, "It will.", ANSWERED, {}, ref("Error")
    )
    paths["/models/load"] = {"post": post(loads, defaults)}
    paths["/models/unload"] = {"post": post(unloads, defaults)}
    health = record(status=TEXT, server={"const": "mlxrun"}, model=maybe(TEXT), models=listed(LOADED), used=maybe(USED))
    told = "Whether requests are answered, what is loaded, and what of this machine is used"
    paths["/health"] = {"get": get("health", told, health)}
    memory = record(**{field.name: COUNT for field in fields(Memory)})
    paths["/memory"] = {"get": get("memory", "Bytes that weights and sequences take, and what is free", memory)}
    metrics = get("metrics", "Counters and times, in Prometheus' text form", TEXT, "text/plain")
    paths["/metrics"] = {"get": metrics}
    return {
        "openapi": "3.2.0",  # the first that can say what the events of a stream are
        "info": {"title": "mlxrun", "version": __version__, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas_of(dialects),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def schemas_of(dialects: Sequence[Dialect]) -> Json:
    """Ours and those of all dialects. A name means one thing: a second meaning is a mistake of who wrote it."""
    found = dict(SCHEMAS)
    for dialect in dialects:
        for name, schema in dialect.operation.schemas.items():
            if found.setdefault(name, schema) != schema:
                raise ValueError(f"{dialect.path} describes another {name} than is described already.")
    return found


def with_defaults(schema: Json, defaults: Sampling) -> Json:
    properties = dict(schema["properties"])
    for name, value in asdict(defaults).items():
        if name in properties and name != "logprobs" and value is not None:
            properties[name] = {**properties[name], "default": value}
    return {**schema, "properties": properties}


def with_nulls(schema: Any) -> Any:
    """What may be left out may also be null, a number may stand for that, and what is not known is left out."""
    if isinstance(schema, list):
        return [with_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    known = {key: value if key in ("enum", "default") else with_nulls(value) for key, value in schema.items()}
    if known.get("additionalProperties") is False:
        del known["additionalProperties"]
    if isinstance(properties := schema.get("properties"), dict):
        required = schema.get("required", ())
        known["properties"] = {
            name: with_nulls(inner) if name in required else _or_null(with_nulls(inner))
            for name, inner in properties.items()
        }
    return known


def _or_null(schema: Json) -> Json:
    if UNSET in schema:
        number = {key: value for key, value in schema.items() if key not in (UNSET, *TOLD)}
        told = {key: schema[key] for key in TOLD if key in schema}
        return {**told, "anyOf": [number, {"enum": [schema[UNSET]]}, {"type": "null"}]}
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], *([] if None in schema["enum"] else [None])]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "oneOf" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def post(operation: Operation, defaults: Sampling) -> Json:
    """What the document says of a path that is posted to."""
    schema = with_nulls(with_defaults(operation.request, defaults))
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": operation.returns, "content": dict(operation.content)},
            **_errors(operation.error),
        },
    }


def get(name: str, summary: str, schema: Json, media: str = "application/json") -> Json:
    found = {"description": summary, "content": {media: {"schema": schema}}}
    return {"operationId": name, "summary": summary, "responses": {"200": found, **_errors(ref("Error"))}}


def _errors(schema: Json) -> Json:
    said = {
        "4XX": "The request is wrong; one sentence says how, and `param` names the field.",
        "5XX": "The server is at fault, or stopping.",
    }
    return {
        status: {"description": about, "content": {"application/json": {"schema": schema}}}
        for status, about in said.items()
    }
