"""The schemas of OpenAI's answers, whole and in chunks, as /openapi.json shows them."""

from __future__ import annotations

from ..dialect import Json
from ..fields import COUNT, NUMBER, TEXT, listed, maybe, record, ref

RETURNS = "The answer; with stream, chunks of it and then [DONE]."
FINISH = {"enum": ["stop", "length"]}
USAGE = record(
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
    prompt_tokens_details=record(cached_tokens=COUNT),
)
TOKEN = record(token=TEXT, logprob=NUMBER, bytes=listed(COUNT))
CHAT_TOKEN = record(**TOKEN["properties"], top_logprobs=listed(TOKEN))
CHAT_LOGPROBS = record(content=listed(CHAT_TOKEN), refusal={"type": "null"})
MESSAGE = record(role={"enum": ["assistant"]}, content=TEXT, refusal={"type": "null"})
MESSAGE["properties"]["reasoning_content"] = {"type": "string", "description": "What the model thought first."}
TEXT_LOGPROBS = record(
    text_offset=listed(COUNT),
    token_logprobs=listed(NUMBER),
    tokens=listed(TEXT),
    top_logprobs=listed({"type": "object", "additionalProperties": NUMBER}),
)


def _answer(kind: str, choice: Json) -> Json:
    head = {"id": TEXT, "object": {"enum": [kind]}, "created": COUNT, "model": TEXT, "system_fingerprint": TEXT}
    return record(**head, choices=listed(choice), usage=USAGE)


def _chunk(kind: str, choice: Json) -> Json:
    """As an answer; the usage comes in the last one, where it was asked for."""
    whole = _answer(kind, choice)
    properties = {**whole["properties"], "usage": maybe(USAGE)}
    return {**whole, "properties": properties, "required": [name for name in properties if name != "usage"]}


CHOICE = {"index": COUNT, "finish_reason": FINISH}
DELTA = {"type": "object", "properties": MESSAGE["properties"], "additionalProperties": False}
CHUNK_CHOICE = {"index": COUNT, "finish_reason": maybe(FINISH)}
CHAT_CHUNK = record(**CHUNK_CHOICE, delta=DELTA, logprobs=maybe(CHAT_LOGPROBS))
TEXT_CHUNK = record(**CHUNK_CHOICE, text=TEXT, logprobs=maybe(TEXT_LOGPROBS))
CHAT_ANSWERS = {
    "ChatCompletionChunk": _chunk("chat.completion.chunk", CHAT_CHUNK),
    "ChatCompletion": _answer("chat.completion", record(**CHOICE, message=MESSAGE, logprobs=maybe(CHAT_LOGPROBS))),
}
TEXT_ANSWERS = {
    "CompletionChunk": _chunk("text_completion", TEXT_CHUNK),
    "Completion": _answer("text_completion", record(**CHOICE, text=TEXT, logprobs=maybe(TEXT_LOGPROBS))),
}


def _content(whole: str, chunk: str) -> Json:
    """One event of a stream: a chunk, an error where it breaks off, or the sign that it is over."""
    schema = {"anyOf": [ref(chunk), ref("Error")]}
    told = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    event = {"anyOf": [record(data={"const": "[DONE]"}), record(data=told)]}
    return {"application/json": {"schema": ref(whole)}, "text/event-stream": {"itemSchema": event}}


CHAT_CONTENT = _content("ChatCompletion", "ChatCompletionChunk")
TEXT_CONTENT = _content("Completion", "CompletionChunk")
