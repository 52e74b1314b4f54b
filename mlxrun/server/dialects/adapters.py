"""Adapters that are loaded and unloaded while the server runs, in vLLM's words; and llama.cpp's list of them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ...core import Sampling
from .. import left_out
from ..body import read
from ..check import Schema, check, shown
from ..dialect import Body, Json, Operation, Plain
from ..direct import OpenAIWords
from ..errors import ApiError, JsonResponse
from ..fields import COUNT, NUMBER, TEXT, fixed, flag, listed, record, ref, text
from ..generate import House
from ..openapi import get, post

CLOSED = "Adapters are not loaded or unloaded over HTTP here: start the server with --adapter-dir DIR to allow it."
NAME = text("What requests call it, as if it were a model.", minLength=1)
LOAD = fixed(
    *("lora_name", "lora_path"),
    lora_name=NAME,
    lora_path=text("A PEFT or mlx-lm folder or a .gguf file, inside the folder of --adapter-dir.", minLength=1),
    load_inplace=flag("True: in the place of one that has the name."),
)
UNLOAD = fixed("lora_name", lora_name=NAME)
SAID: Json = {"text/plain": {"schema": TEXT}}
WORDS = OpenAIWords()


async def load(request: Request, house: House) -> Response:
    body = await _body_of(request, house, LOAD)
    name = body["lora_name"]
    if await house.aside(lambda: house.models.is_model(name)):
        raise ApiError(400, f"A model here is called {shown(name)}; name the adapter otherwise.", param="lora_name")
    await house.models.load_adapter(name, body["lora_path"], anew=bool(body.get("load_inplace")))
    return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")


async def unload(request: Request, house: House) -> Response:
    body = await _body_of(request, house, UNLOAD)
    house.models.unload_adapter(body["lora_name"])
    return PlainTextResponse(f"Success: LoRA adapter '{body['lora_name']}' removed successfully.")


async def listing(_: Request, house: House) -> Response:
    """Scales are 0: none is used unless a request names it."""
    return JsonResponse([{"id": place, "path": name, "scale": 0.0} for place, name in enumerate(house.models.adapters)])


async def _body_of(request: Request, house: House, schema: Schema) -> Body:
    if not house.models.adapters.open:
        raise ApiError(403, CLOSED)
    raw = await read(request, house.body_limit)
    body, _ = left_out.understood(raw, schema, strict=house.strict)
    check(body, schema)
    return body


def _operation(name: str, summary: str, request: Json) -> Operation:
    return Operation(name, summary, request, "It is.", SAID, {}, ref("Error"))


LISTED = get("loraAdapters", "The adapters that are served", listed(record(id=COUNT, path=TEXT, scale=NUMBER)))
ADAPTER_PLAINS = (
    *(
        Plain(path, ("POST",), answer, WORDS, {"post": post(operation, Sampling())})
        for path, answer, operation in (
            ("/v1/load_lora_adapter", load, _operation("loadAdapter", "Load an adapter of the first model", LOAD)),
            ("/v1/unload_lora_adapter", unload, _operation("unloadAdapter", "Unload an adapter", UNLOAD)),
        )
    ),
    Plain("/lora-adapters", ("GET",), listing, WORDS, {"get": LISTED}),
)
