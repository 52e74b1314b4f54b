"""/rerank: which of several texts answers a question best. No model that runs here can score that yet, and this says
so: the angle between two vectors is another thing, which /v1/embeddings gives."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ...core import Sampling
from ..dialect import Body, Operation, Plain, Voice
from ..direct import OpenAIWords, answered
from ..errors import ApiError
from ..fields import COUNT, NUMBER, either, fixed, flag, listed, lists, record, ref, text, whole
from ..generate import House
from ..openapi import post

PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")
MOST = 2048  # documents of a request
DOCUMENT = either(text(minLength=1), fixed("text", text=text(minLength=1)))
RERANK = fixed(
    "query",
    "documents",
    model=text("The model that is served, as GET /v1/models names it; may be left out."),
    query=text("What is asked.", minLength=1),
    documents=lists(DOCUMENT, "Texts, or objects with a text.", minItems=1, maxItems=MOST),
    top_n=whole("Tell only so many, the best.", minimum=1),
    return_documents=flag("Tell the texts too."),
    max_tokens_per_doc=whole("Read no more of a text.", minimum=1),
)
ANSWER = record(results=listed(record(index=COUNT, relevance_score=NUMBER)))
OPERATION = Operation(
    name="rerank",
    summary="Which of several texts answers a question best; no model here can tell yet",
    request=RERANK,
    returns="Their scores, best first.",
    content={"application/json": {"schema": ANSWER}},
    schemas={},
    error=ref("Error"),
)


async def rerank(request: Request, house: House) -> Response:
    return await answered(request, house, RERANK, _refuse)


async def _refuse(body: Body, voice: Voice, house: House) -> Response:
    message = (
        f"{voice.name} cannot rerank: that takes a cross-encoder, an encoder with a head that scores a question and a "
        "text together, and mlxrun runs none yet. /v1/embeddings gives vectors to compare."
    )
    raise ApiError(400, message, param="model", code="not_supported")


RERANK_PLAINS = tuple(
    Plain(path, ("POST",), rerank, OpenAIWords(), {"post": post(OPERATION, Sampling())} if path == PATHS[0] else {})
    for path in PATHS
)
