"""What llama.cpp's server tells beside answers: tokens of a text and back, a rendered conversation, how it stands."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ... import __version__
from ...assistant import COUNTED
from ...core import Sampling
from ..dialect import Body, Json, Operation, Plain, Voice
from ..direct import OpenAIWords, answered
from ..errors import LATER, ApiError, JsonResponse
from ..fields import COUNT, TEXT, either, fixed, flag, listed, lists, record, ref, text, whole
from ..generate import House
from ..openapi import get, post
from .openai_chat import ask_of
from .openai_fields import CHAT, COMMON

TOKENIZE = fixed(
    "content",
    model=COMMON["model"],
    content=either(text(), lists(either(text(), whole(minimum=0))), about="A text, or texts and ids in turn."),
    add_special=flag("With what the tokenizer puts round a text that stands alone."),
    parse_special=flag("False: control tokens that are written out in it stay text."),
    with_pieces=flag("Tell the text of each token too."),
)
DETOKENIZE = fixed("tokens", model=COMMON["model"], tokens=lists(whole(minimum=0)))
WORDS = OpenAIWords()


async def tokenize(request: Request, house: House) -> Response:
    async def answer(body: Body, voice: Voice, house: House) -> Response:
        return await house.aside(lambda: JsonResponse({"tokens": tokens_of(body, voice)}))

    return await answered(request, house, TOKENIZE, answer)


def tokens_of(body: Body, voice: Voice) -> list[Json] | list[int]:
    own, special = voice.assistant.tokenizer, body.get("parse_special") is not False
    ids_of = partial(voice.assistant.ids, special=special, times=COUNTED)
    parts = [body["content"]] if isinstance(body["content"], str) else body["content"]
    ids = [token for part in parts for token in (ids_of(part) if isinstance(part, str) else [part])]
    if body.get("add_special"):
        ids = [*own.prefix, *ids, *own.suffix]
    return (
        [{"id": token, "piece": piece_of(own.token_bytes(token))} for token in ids] if body.get("with_pieces") else ids
    )


def piece_of(spelled: bytes) -> str | list[int]:
    """As bytes where they are no text."""
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return list(spelled)


async def detokenize(request: Request, house: House) -> Response:
    async def answer(body: Body, voice: Voice, house: House) -> Response:
        own, vocab = voice.assistant.tokenizer, voice.assistant.tokenizer.vocab_size
        if not all(token < vocab for token in body["tokens"]):
            raise ApiError(400, f"tokens holds a token id outside 0 to {vocab - 1}.", param="tokens")
        return await house.aside(lambda: JsonResponse({"content": own.decode(body["tokens"], skip_special=False)}))

    return await answered(request, house, DETOKENIZE, answer)


async def apply_template(request: Request, house: House) -> Response:
    async def answer(body: Body, voice: Voice, house: House) -> Response:
        own = voice.assistant
        return await house.aside(lambda: JsonResponse({"prompt": own.prompt(ask_of(body))}))

    return await answered(request, house, CHAT, answer)


async def props(request: Request, house: House) -> Response:
    voice = await loaded(request, house)
    own = voice.assistant
    told: Json = {
        "default_generation_settings": {"n_ctx": own.engine.context, "params": sampled(voice.sampling)},
        "total_slots": house.traffic.limit,
        "model_alias": voice.name,
        "chat_template": own.template.source() if own.template.has_chat else "",
        "modalities": {"vision": False, "audio": False},
        "build_info": f"mlxrun-{__version__}",
        "is_sleeping": False,
    }
    return JsonResponse(told)


def sampled(sampling: Sampling) -> Json:
    names = ("temperature", "top_k", "top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty")
    return {name: getattr(sampling, name) for name in names}


async def slots(request: Request, house: House) -> Response:
    """One for each answer that is on its way: there are no fixed ones."""
    voice = await loaded(request, house)
    now, context = voice.assistant.engine.statistics().now, voice.assistant.engine.context
    running = int(now.get("speaking", 0) + now.get("reading", 0))
    return JsonResponse([{"id": slot, "n_ctx": context, "is_processing": True} for slot in range(running)])


async def loaded(request: Request, house: House) -> Voice:
    """The model that the query names, if it is there without loading it."""
    asked = request.query_params.get("model")
    name = await house.aside(lambda: house.models.name_of(asked))
    voice = next((voice for voice in house.models.voices() if voice.name == name), None)
    if voice is None:
        raise ApiError(503, f"The model {name!r} is not loaded yet.", headers=LATER)
    return voice


def told(name: str, summary: str, schema: Json, answer: Json) -> Json:
    content = {"application/json": {"schema": answer}}
    return {"post": post(Operation(name, summary, schema, "What was asked.", content, {}, ref("Error")), Sampling())}


PIECES = {"anyOf": [listed(COUNT), listed(record(id=COUNT))]}
SLOT = record(id=COUNT, n_ctx=COUNT, is_processing=flag())
LLAMA_PLAINS = (
    Plain(
        "/tokenize", ("POST",), tokenize, WORDS, told("tokenize", "A text's tokens", TOKENIZE, record(tokens=PIECES))
    ),
    Plain(
        "/detokenize",
        ("POST",),
        detokenize,
        WORDS,
        told("detokenize", "The text of tokens", DETOKENIZE, record(content=TEXT)),
    ),
    Plain(
        "/apply-template",
        ("POST",),
        apply_template,
        WORDS,
        told("applyTemplate", "A conversation as the model reads it", CHAT, record(prompt=TEXT)),
    ),
    Plain("/props", ("GET",), props, WORDS, {"get": get("props", "A loaded model, in llama.cpp's words", record())}),
    Plain("/slots", ("GET",), slots, WORDS, {"get": get("slots", "Answers on their way", listed(SLOT))}),
)
