"""/api/embed and /api/embeddings: vectors of texts, in Ollama's words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from ...engine.embedding import EmbeddingJob, Vector
from ..dialect import Body, Json, Plain, Voice
from ..direct import answered
from ..errors import JsonResponse
from ..fields import COUNT, NUMBER, TEXT, either, fixed, flag, listed, lists, record, text, unset, whole
from ..generate import House
from .embeddings import size_of, spelled
from .ollama_answers import nanos
from .ollama_ask import keep_of
from .ollama_fields import KEEP_ALIVE, OPTIONS
from .ollama_models import WORDS, posted

MOST = 2048  # inputs of a request
COMMON = {
    "model": text("One that GET /api/tags names.", minLength=1),
    "options": OPTIONS,
    "keep_alive": KEEP_ALIVE,
}
EMBED = fixed(
    "model",
    **COMMON,
    input=either(text(), lists(text(minLength=1), maxItems=MOST), about="A text or several; without any it is loaded."),
    truncate=flag("false: a text that is too long is an error; else it is cut."),
    dimensions=unset(whole("Cut the vector to so many; only where the model was trained for that.", minimum=1), 0),
)
EMBEDDINGS = fixed("model", **COMMON, prompt=text("Without it the model is loaded."))
ANSWER = record(model=TEXT, embeddings=listed(listed(NUMBER)), total_duration=COUNT, load_duration=COUNT)
ANSWER["properties"]["prompt_eval_count"] = COUNT


async def embed(request: Request, house: House) -> Response:
    async def answer(body: Body, voice: Voice, house: House) -> Response:
        began, given = time.perf_counter(), body.get("input") or ()
        inputs = [given] if isinstance(given, str) else list(given)
        size, cut = size_of(body.get("dimensions"), voice), body.get("truncate") is not False
        job, vectors = await vectors_of(inputs, size, voice, house, cut=cut)
        told: Json = {"model": body["model"], "embeddings": await house.aside(lambda: numbers(vectors))}
        total = time.perf_counter() - began + voice.waited
        told |= {"total_duration": nanos(total), "load_duration": nanos(voice.waited)}
        return JsonResponse({**told, "prompt_eval_count": sum(map(len, job.inputs)) if job else 0})

    return await answered(request, house, EMBED, answer, lambda body: keep_of(body.get("keep_alive")))


async def embeddings(request: Request, house: House) -> Response:
    async def answer(body: Body, voice: Voice, house: House) -> Response:
        inputs = [body["prompt"]] if body.get("prompt") else []
        _, vectors = await vectors_of(inputs, None, voice, house)
        return JsonResponse({"embedding": next(iter(numbers(vectors)), [])})

    return await answered(request, house, EMBEDDINGS, answer, lambda body: keep_of(body.get("keep_alive")))


async def vectors_of(
    inputs: Sequence[str], size: int | None, voice: Voice, house: House, *, cut: bool = True
) -> tuple[EmbeddingJob | None, Sequence[Vector]]:
    """Of no input no vectors: the model is only loaded."""
    if not inputs:
        return None, ()
    job = await house.aside(lambda: voice.assistant.embed(inputs, size, truncate=cut))
    return job, await asyncio.wrap_future(job.done)  # cancelled with us, and the job then ends


def numbers(vectors: Sequence[Vector]) -> list[list[float] | str]:
    return [spelled(vector, floats=True) for vector in vectors]


EMBED_PLAINS = (
    Plain("/api/embed", ("POST",), embed, WORDS, posted("ollamaEmbed", "Vectors of texts", EMBED, ANSWER)),
    Plain(
        "/api/embeddings",
        ("POST",),
        embeddings,
        WORDS,
        posted("ollamaEmbeddings", "A vector of a text", EMBEDDINGS, record(embedding=listed(NUMBER))),
    ),
)
