"""llama.cpp's own /completion and /infill: what its editors' plugins ask for, beside OpenAI's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...assistant import Answer, Assistant, Wish
from ...core import Finish, Usage
from ...parts import Piece, Said, name_of
from ...text.infill import InfillPrompt
from ..check import check
from ..dialect import Body, Encoder, Job, Json, Operation, Voice, WantedModel
from ..errors import ApiError
from ..fields import COUNT, NUMBER, TEXT, either, fixed, flag, lists, number, record, ref, text, unset, whole
from ..sse import MEDIA_TYPE, STILL_HERE, frame
from .openai import wish
from .openai_constraints import CONSTRAINTS
from .openai_fields import COMMON, IGNORED_ABOUT, SAMPLERS

IDS = lists(whole(minimum=0), minItems=1)
SHARED: dict[str, Any] = {
    "model": COMMON["model"],
    "n_predict": unset(whole("The most tokens of the answer; -1: what the context holds.", minimum=1)),
    **{name: COMMON[name] for name in ("temperature", "top_p", "top_k", "min_p", "seed", "stop", "stream")},
    **SAMPLERS,
    **CONSTRAINTS,
    "repeat_penalty": number("As repetition_penalty.", minimum=1e-30, maximum=10),
    "cache_prompt": flag(IGNORED_ABOUT),
    "id_slot": whole(IGNORED_ABOUT),
    "timings_per_token": flag(IGNORED_ABOUT),
    "return_progress": flag(IGNORED_ABOUT),
    "return_tokens": flag(IGNORED_ABOUT),
    "samplers": lists(text(), IGNORED_ABOUT),
    "t_max_prompt_ms": number(IGNORED_ABOUT),
    "t_max_predict_ms": number(IGNORED_ABOUT),
    "n_keep": whole(IGNORED_ABOUT),
    "n_indent": whole(IGNORED_ABOUT),
    "response_fields": lists(text(), IGNORED_ABOUT),
}
COMPLETION = fixed("prompt", prompt=either(text(), IDS, about="A text, or its token ids."), **SHARED)
INFILL = fixed(
    input_prefix=text("What comes before the gap."),
    input_suffix=text("What comes after it."),
    prompt=text("More before the gap, such as the beginning of its line."),
    input_extra=lists(
        fixed("text", filename=text(), text=text()), "Other files, which the text may be like.", maxItems=256
    ),
    **SHARED,
)
STOPS = {Finish.STOP: "eos", Finish.LENGTH: "limit"}
TIMINGS = record(
    **dict.fromkeys(("cache_n", "prompt_n", "predicted_n"), COUNT),
    **dict.fromkeys(("prompt_ms", "predicted_ms", "prompt_per_second", "predicted_per_second"), NUMBER),
)
ANSWER = record(
    content=TEXT, stop=flag(), model=TEXT, stop_type=TEXT, stopping_word=TEXT, tokens_predicted=COUNT, timings=TIMINGS
)


class LlamaEncoder:
    media_type = MEDIA_TYPE

    def __init__(self, model: str) -> None:
        self._model = model

    def begin(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Piece) -> bytes:
        told = said(piece)
        return frame({"index": 0, "content": told, "stop": False}) if told else b""

    def idle(self) -> bytes:
        return STILL_HERE

    def end(self, lasts: Sequence[Piece]) -> bytes:
        return frame(self._last(lasts[0], ""))

    def failed(self, error: ApiError) -> bytes:
        return frame(error.body)

    def whole(self, pieces: Sequence[Piece]) -> Json:
        return self._last(pieces[0], said(pieces[0]))

    def _last(self, piece: Piece, content: str) -> Json:
        usage = piece.usage or Usage(0, 0, 0, 0.0, 0.0)
        return {
            "index": 0,
            "content": content,
            "tokens": [],
            "stop": True,
            "model": self._model,
            "tokens_predicted": usage.output_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "tokens_cached": usage.cached_tokens,
            "truncated": False,
            "stop_type": "word" if piece.stop is not None else STOPS.get(piece.finish or Finish.STOP, "none"),
            "stopping_word": piece.stop or "",
            "timings": timings(usage),
        }


def said(piece: Piece) -> str:
    for part in piece.parts:
        if not isinstance(part, Said):
            raise ApiError(500, f"The model wrote {name_of(part)}, and there is no place for it.")
    return piece.content


def timings(usage: Usage) -> Json:
    read, written = usage.prompt_tokens - usage.cached_tokens, usage.output_tokens
    return {
        "cache_n": usage.cached_tokens,
        "prompt_n": read,
        "prompt_ms": 1000 * usage.prefill_seconds,
        "prompt_per_second": read / usage.prefill_seconds if usage.prefill_seconds else 0.0,
        "predicted_n": written,
        "predicted_ms": 1000 * usage.decode_seconds,
        "predicted_per_second": written / usage.decode_seconds if usage.decode_seconds else 0.0,
    }


Way = Callable[[Assistant, Body, Wish], list[Answer]]


def complete(assistant: Assistant, body: Body, wanted: Wish) -> list[Answer]:
    return assistant.complete(body["prompt"], wanted)


def fill(assistant: Assistant, body: Body, wanted: Wish) -> list[Answer]:
    extra = tuple((file.get("filename") or "file", file["text"]) for file in body.get("input_extra") or ())
    before = (body.get("input_prefix") or "") + (body.get("prompt") or "")
    return assistant.fill(InfillPrompt(before, body.get("input_suffix") or "", extra), wanted)


@dataclass(frozen=True)
class LlamaText:
    path: str
    operation: Operation
    way: Way

    def error(self, error: ApiError) -> Json:
        return error.body

    def check(self, body: Body) -> WantedModel:
        check(body, self.operation.request)
        return WantedModel(body.get("model"))

    def read(self, body: Body, voice: Voice) -> Job:
        told = {**body, "repetition_penalty": body.get("repetition_penalty") or body.get("repeat_penalty")}
        wanted = wish(told, voice.sampling, body.get("n_predict"), None)
        encoder: Encoder = LlamaEncoder(voice.name)
        return Job(lambda: self.way(voice.assistant, body, wanted), 1, encoder, bool(body.get("stream")))


def operation(name: str, summary: str, request: Json) -> Operation:
    content = {"application/json": {"schema": ANSWER}, "text/event-stream": {"schema": TEXT}}
    return Operation(name, summary, request, "The text, and how fast it was made.", content, {}, ref("Error"))


LLAMA_COMPLETION = LlamaText(
    "/completion", operation("llamaCompletion", "Go on with a text, in llama.cpp's words", COMPLETION), complete
)
LLAMA_INFILL = LlamaText(
    "/infill", operation("llamaInfill", "Fill in between two texts, in llama.cpp's words", INFILL), fill
)
