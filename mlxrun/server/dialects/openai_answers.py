"""The schemas of OpenAI's answers, whole and in chunks, as /openapi.json shows them."""

from __future__ import annotations

from ..dialect import Json
from ..fields import COUNT, NUMBER, TEXT, listed, maybe, record, ref

RETURNS = "The answer; with stream, chunks of it and then [DONE]."
FINISH = {"enum": ["stop", "length"]}
CHAT_FINISH = {"enum": ["stop", "length", "tool_calls"]}
USAGE = record(
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
    prompt_tokens_details=record(cached_tokens=COUNT),
    completion_tokens_details=record(reasoning_tokens=COUNT),
)
TOKEN = record(token=TEXT, logprob=NUMBER, bytes=listed(COUNT))
CHAT_TOKEN = record(**TOKEN["properties"], top_logprobs=listed(TOKEN))
CHAT_LOGPROBS = record(content=listed(CHAT_TOKEN), refusal={"type": "null"})
CALL = record(
    id=TEXT,
    type={"enum": ["function", "custom"]},
    function=record(name=TEXT, arguments=TEXT),
    custom=record(name=TEXT, input=TEXT),
)
CALL["required"] = ["id", "type"]
CALL_DELTA = {
    "type": "object",
    "properties": {
        **CALL["properties"],
        "index": COUNT,
        "function": {"type": "object", "properties": {"name": TEXT, "arguments": TEXT}},
        "custom": {"type": "object", "properties": {"name": TEXT, "input": TEXT}},
    },
    "required": ["index"],
}
MESSAGE = record(role={"enum": ["assistant"]}, content=maybe(TEXT), refusal={"type": "null"})
MESSAGE["properties"]["reasoning_content"] = {"type": "string", "description": "What the model thought first."}
TEXT_LOGPROBS = record(
    text_offset=listed(COUNT),
    token_logprobs=listed(maybe(NUMBER)),
    tokens=listed(TEXT),
    top_logprobs=listed(maybe({"type": "object", "additionalProperties": NUMBER})),
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
DELTA = {
    "type": "object",
    "properties": {**MESSAGE["properties"], "tool_calls": listed(CALL_DELTA)},
    "additionalProperties": False,
}
MESSAGE["properties"]["tool_calls"] = listed(CALL)
CHUNK_CHOICE = {"index": COUNT, "finish_reason": maybe(FINISH)}
CHAT_CHUNK = record(index=COUNT, finish_reason=maybe(CHAT_FINISH), delta=DELTA, logprobs=maybe(CHAT_LOGPROBS))
CHAT_CHOICE = record(index=COUNT, finish_reason=CHAT_FINISH, message=MESSAGE, logprobs=maybe(CHAT_LOGPROBS))
TEXT_CHUNK = record(**CHUNK_CHOICE, text=TEXT, logprobs=maybe(TEXT_LOGPROBS))
CHAT_ANSWERS = {
    "ChatCompletionChunk": _chunk("chat.completion.chunk", CHAT_CHUNK),
    "ChatCompletion": _answer("chat.completion", CHAT_CHOICE),
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
