"""/rerank: which of several texts answers a question best.

In the words of Cohere, Jina and llama.cpp's server; and of Hugging Face's, who say `texts` and get a bare list.
"""

from __future__ import annotations

import asyncio
import math
import secrets

from starlette.requests import Request
from starlette.responses import Response

from ...core import Sampling
from ..dialect import Body, Json, Operation, Plain, Voice
from ..direct import OpenAIWords, answered
from ..errors import ApiError, JsonResponse
from ..fields import COUNT, NUMBER, TEXT, either, fixed, flag, listed, lists, record, ref, text, whole
from ..generate import House
from ..openapi import post

PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")
MOST = 2048  # documents of a request
DOCUMENT = either(text(minLength=1), fixed("text", text=text(minLength=1)))
RERANK = fixed(
    "query",
    model=text("The model that is served, as GET /v1/models names it; may be left out."),
    query=text("What is asked.", minLength=1),
    documents=lists(DOCUMENT, "Texts, or objects with a text.", minItems=1, maxItems=MOST),
    texts=lists(text(minLength=1), "The same; the answer is then a bare list.", minItems=1, maxItems=MOST),
    top_n=whole("Tell only so many, the best.", minimum=1),
    return_documents=flag("Tell the texts too."),
    return_text=flag("The same, beside `texts`."),
    max_tokens_per_doc=whole("Read no more of a text.", minimum=1),
)
RESULT = record(index=COUNT, relevance_score=NUMBER)
ANSWER = record(
    id=TEXT,
    object={"enum": ["list"]},
    model=TEXT,
    results=listed(RESULT),
    usage=record(prompt_tokens=COUNT, total_tokens=COUNT),
)
OPERATION = Operation(
    name="rerank",
    summary="Which of several texts answers a question best",
    request=RERANK,
    returns="Of each text how well it does, from 0 to 1, best first.",
    content={"application/json": {"schema": ANSWER}},
    schemas={},
    error=ref("Error"),
)


async def rerank(request: Request, house: House) -> Response:
    return await answered(request, house, RERANK, _answer)


async def _answer(body: Body, voice: Voice, house: House) -> Response:
    texts = texts_of(body)
    if voice.assistant.ranking is None and not voice.assistant.late:
        message = (
            f"{voice.name} cannot rerank: that takes a cross-encoder, an encoder with a head of one label, a model "
            "with a vector for each token (ColBERT), or one whose modules.json ends in LogitScore. "
            "/v1/embeddings gives vectors to compare."
        )
        raise ApiError(400, message, param="model", code="not_supported")
    job = await house.aside(lambda: voice.assistant.rank(body["query"], texts, body.get("max_tokens_per_doc")))
    logits = await asyncio.wrap_future(job.done)  # cancelled with us, and the job then ends
    best = sorted(range(len(texts)), key=lambda index: -logits[index])[: body.get("top_n")]
    if body.get("texts") is not None:
        more = {index: {"text": texts[index]} if body.get("return_text") else {} for index in best}
        return JsonResponse([{"index": index, "score": share(logits[index]), **more[index]} for index in best])
    told: list[Json] = [{"index": index, "relevance_score": share(logits[index])} for index in best]
    if body.get("return_documents"):
        told = [{**one, "document": {"text": texts[index]}} for index, one in zip(best, told, strict=True)]
    tokens = sum(map(len, job.inputs))
    answer: Json = {"id": f"rerank-{secrets.token_hex(12)}", "object": "list", "model": voice.name, "results": told}
    answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JsonResponse({**answer, "meta": {"tokens": {"input_tokens": tokens}}})  # where Cohere's clients look


def texts_of(body: Body) -> list[str]:
    given = [found for found in (body.get("documents"), body.get("texts")) if found is not None]
    if len(given) != 1:
        raise ApiError(400, "Either documents must be there, or texts.", param="documents")
    return [one if isinstance(one, str) else one["text"] for one in given[0]]


def share(logit: float) -> float:
    """From 0 to 1."""
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


RERANK_PLAINS = tuple(
    Plain(path, ("POST",), rerank, OpenAIWords(), {"post": post(OPERATION, Sampling())} if path == PATHS[0] else {})
    for path in PATHS
)
