"""/v1/audio/transcriptions and /v1/audio/translations: speech written down, in OpenAI's words."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ...core import Sampling
from ...media.sound import MOST_BYTES
from ...speech import Task, Transcript, TranscriptSegment, TranscriptWish
from ...text.subtitles import srt, vtt
from .. import left_out
from ..check import Schema
from ..dialect import Body, Json, Operation, Plain, Voice
from ..direct import OpenAIWords, answered
from ..errors import ApiError, JsonResponse
from ..fields import COUNT, NUMBER, TEXT, fixed, listed, lists, neutral, number, one_of, record, ref, text
from ..form import FormPart, fields_of, parts_of
from ..generate import House
from ..openapi import post

PATHS: dict[str, Task] = {"/v1/audio/transcriptions": "transcribe", "/v1/audio/translations": "translate"}
FORM = 1 << 20  # bytes that a form may have beside its file
UNHEEDED = "Accepted and ignored: it does not change the answer."
FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
TRANSLATION = {
    "model": text("The model that is served, as GET /v1/models names it; may be left out."),
    "prompt": text("As if said before: names and words that are hard to hear, or the style."),
    "response_format": one_of(*FORMATS, about="verbose_json has segments with their times, srt and vtt are subtitles."),
    "temperature": number("0, or where the first try begins.", minimum=0, maximum=1),
}
TRANSCRIPTION = fixed(
    **TRANSLATION,
    language=text("Its code, such as en; heard where it is not said.", minLength=1),
    stream=neutral(False),
    timestamp_granularities=lists(one_of("segment"), "Times of words are not there."),
    include=lists(text(), UNHEEDED),
    chunking_strategy=text(UNHEEDED),
)
SCHEMAS: dict[Task, Json] = {"transcribe": TRANSCRIPTION, "translate": fixed(**TRANSLATION)}
USAGE = record(type={"enum": ["duration"]}, seconds=COUNT)
ANSWER = record(text=TEXT, usage=USAGE)
SEGMENT = record(
    id=COUNT,
    seek=COUNT,
    start=NUMBER,
    end=NUMBER,
    text=TEXT,
    tokens=listed(COUNT),
    temperature=NUMBER,
    avg_logprob=NUMBER,
    compression_ratio=NUMBER,
    no_speech_prob=NUMBER,
)
VERBOSE = record(task=TEXT, language=TEXT, duration=NUMBER, text=TEXT, segments=listed(SEGMENT), usage=USAGE)
SUMMARIES: dict[Task, str] = {"transcribe": "Speech written down", "translate": "Speech written down in English"}


async def transcriptions(request: Request, house: House) -> Response:
    """One file a request."""
    task = PATHS[request.url.path if request.url.path.startswith("/v1") else f"/v1{request.url.path}"]
    schema, kind = SCHEMAS[task], request.headers.get("content-type", "")
    file: list[FormPart] = []

    def understood(raw: bytes, schema: Schema, *, strict: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
        parts = parts_of(raw, kind)
        files = [part for part in parts if part.file is not None]
        if [part.name for part in files] != ["file"]:
            raise ApiError(400, "The form must hold one file, in the field 'file'.", param="file")
        file[:] = files
        body = fields_of(parts, schema)
        names = left_out.settle(body, schema)
        if strict:
            left_out.refuse(names)
        return body, names

    async def answer(body: Body, voice: Voice, house: House) -> Response:
        return await _answer(body, file, task, voice, house)

    return await answered(request, house, schema, answer, understood=understood, limit=MOST_BYTES + FORM)


async def _answer(body: Body, file: list[FormPart], task: Task, voice: Voice, house: House) -> Response:
    transcriber = voice.assistant.transcriber
    if transcriber is None:
        message = f"{voice.name} writes down no speech: that takes a model such as openai/whisper-base."
        raise ApiError(400, message, param="model", code="not_supported")
    wish = TranscriptWish(body.get("language"), task, body.get("prompt") or "", body.get("temperature") or 0.0)
    job = await house.aside(lambda: transcriber.begin(transcriber.open(file.pop().data, "file"), wish))
    spoken = await asyncio.wrap_future(job.done)  # cancelled with us, and the job then ends
    made = await house.aside(lambda: transcriber.transcript(spoken))
    return told(made, task, body.get("response_format") or "json")


def told(made: Transcript, task: Task, kind: str) -> Response:
    if kind == "text":
        return PlainTextResponse(made.text + "\n")
    if kind in ("srt", "vtt"):
        return PlainTextResponse(srt(made.segments) if kind == "srt" else vtt(made.segments))
    usage = {"type": "duration", "seconds": round(made.duration)}
    if kind == "json":
        return JsonResponse({"text": made.text, "usage": usage})
    return JsonResponse({"task": task, **verbose(made), "usage": usage})


def verbose(made: Transcript) -> Json:
    return {
        "language": made.language or "en",
        "duration": made.duration,
        "text": made.text,
        "segments": [segment(one) for one in made.segments],
    }


def segment(one: TranscriptSegment) -> Json:
    return {
        "id": one.id,
        "seek": one.seek,
        "start": one.start,
        "end": one.end,
        "text": one.text,
        "tokens": list(one.tokens),
        "temperature": one.temperature,
        "avg_logprob": one.avg_logprob,
        "compression_ratio": one.compression_ratio,
        "no_speech_prob": one.no_speech_prob,
    }


def described(path: str, task: Task) -> Json:
    operation = Operation(
        name=path.rpartition("/")[2],
        summary=SUMMARIES[task],
        request=SCHEMAS[task],
        returns="What was said; of subtitles and plain text as text/plain.",
        content={"application/json": {"schema": {"anyOf": [ANSWER, VERBOSE]}}, "text/plain": {"schema": TEXT}},
        schemas={},
        error=ref("Error"),
    )
    made = post(operation, Sampling())
    form = made["requestBody"]["content"].pop("application/json")["schema"]
    file = {"type": "string", "format": "binary", "description": "WAV, FLAC, MP3 or Ogg Vorbis."}
    form = {**form, "properties": {"file": file, **form["properties"]}, "required": ["file"]}
    made["requestBody"]["content"]["multipart/form-data"] = {"schema": form}
    return {"post": made}


TRANSCRIPTION_PLAINS = tuple(
    Plain(path if versioned else path.removeprefix("/v1"), ("POST",), transcriptions, OpenAIWords(),
          described(path, task) if versioned else {})
    for path, task in PATHS.items()
    for versioned in (True, False)
)  # fmt: skip
