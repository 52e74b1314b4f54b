"""/v1/embeddings: vectors of texts, in OpenAI's words. SDKs ask for base64 where their user says nothing."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...core import Sampling
from ...engine.embedding import EmbeddingJob, Vector
from ...engine.late import LateJob
from ..dialect import Body, Json, Operation, Plain, Voice
from ..direct import OpenAIWords, answered
from ..errors import ApiError, JsonResponse
from ..fields import COUNT, NUMBER, TEXT, either, fixed, flag, listed, lists, one_of, record, ref, text, unset, whole
from ..generate import House
from ..openapi import post

PATH = "/v1/embeddings"
MOST = 2048  # inputs of a request
UNHEEDED = "Accepted and ignored: it does not change the answer."
IDS = lists(whole(minimum=0), minItems=1)
EMBEDDINGS = fixed(
    "input",
    model=text("The model that is served, as GET /v1/models names it; may be left out."),
    input=either(
        text(minLength=1),
        IDS,
        lists(either(text(minLength=1), IDS), minItems=1, maxItems=MOST),
        about="A text, its token ids, or several of either.",
    ),
    encoding_format=one_of("float", "base64", about="base64: of the numbers as little-endian float32."),
    dimensions=unset(whole("Cut the vector to so many; only where the model was trained for that.", minimum=1)),
    prompt_name=text("Which of the model's prompts to put before each text, such as query or document."),
    truncate=flag("Cut a text that is too long; without it that is an error."),
    multi_vector=flag("A vector for each token, of models that have these (ColBERT); prompt_name query: of questions."),
    user=text(UNHEEDED),
)
VECTOR = {"anyOf": [listed(NUMBER), TEXT, listed(listed(NUMBER)), listed(TEXT)]}
ANSWER = record(
    object={"enum": ["list"]},
    data=listed(record(object={"enum": ["embedding"]}, index=COUNT, embedding=VECTOR)),
    model=TEXT,
    usage=record(prompt_tokens=COUNT, total_tokens=COUNT),
)
OPERATION = Operation(
    name="embeddings",
    summary="Vectors of texts",
    request=EMBEDDINGS,
    returns="A vector of length 1 for each input, in order.",
    content={"application/json": {"schema": ANSWER}},
    schemas={},
    error=ref("Error"),
)


async def embeddings(request: Request, house: House) -> Response:
    return await answered(request, house, EMBEDDINGS, _answer)


async def _answer(body: Body, voice: Voice, house: House) -> Response:
    inputs, size = inputs_of(body["input"]), size_of(body.get("dimensions"), voice)
    named, cut, rows = body.get("prompt_name"), body.get("truncate") is True, body.get("multi_vector") is True

    def begun() -> EmbeddingJob | LateJob:
        if rows:
            return voice.assistant.embed_tokens(all_texts(inputs), question=is_question(named), truncate=cut)
        return voice.assistant.embed(inputs, size, prompt=named, truncate=cut)

    job = await house.aside(begun)
    vectors = await asyncio.wrap_future(job.done)  # cancelled with us, and the job then ends
    floats = body.get("encoding_format") != "base64"

    def told() -> Response:
        data: list[Json] = []
        for index, found in enumerate(vectors):
            spelled_out = [spelled(row, floats) for row in found] if rows else spelled(found, floats)
            data.append({"object": "embedding", "index": index, "embedding": spelled_out})
        tokens = sum(map(len, job.inputs))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JsonResponse({"object": "list", "data": data, "model": voice.name, "usage": usage})

    return await house.aside(told)


def all_texts(inputs: Sequence[str | Sequence[int]]) -> list[str]:
    texts = [one for one in inputs if isinstance(one, str)]
    if len(texts) < len(inputs):
        raise ApiError(400, "With multi_vector each input must be a text, for tokens are put round it.", param="input")
    return texts


def is_question(named: str | None) -> bool:
    if named not in (None, "query", "document"):
        message = f"With multi_vector prompt_name must be query or document, not {named!r}."
        raise ApiError(400, message, param="prompt_name")
    return named == "query"


def inputs_of(given: Any) -> Sequence[str | Sequence[int]]:
    """One text or list of ids stands for itself; else they are many."""
    return [given] if isinstance(given, str) or isinstance(given[0], int) else given


def size_of(asked: int | None, voice: Voice) -> int | None:
    trained = voice.assistant.embedding.refuses(asked)
    if trained is None:
        return asked
    message = f"dimensions must be {trained}, which {voice.name} was trained for, not {asked}."
    raise ApiError(400, message, param="dimensions")


def spelled(vector: Vector, floats: bool) -> list[float] | str:
    """Nine digits give each float32 again."""
    if floats:
        return [float(f"{number:.9g}") for number in vector.tolist()]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def described(operation: Operation) -> Json:
    return {"post": post(operation, Sampling())}


EMBEDDINGS_PLAIN = Plain(PATH, ("POST",), embeddings, OpenAIWords(), described(OPERATION))
EMBEDDINGS_UNVERSIONED = Plain("/embeddings", ("POST",), embeddings, OpenAIWords(), {})
