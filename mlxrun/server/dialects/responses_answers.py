"""The schemas of the Responses' answers, whole and in events, as /openapi.json shows them."""

from __future__ import annotations

from ..dialect import Json
from ..fields import COUNT, NUMBER, TEXT, listed, maybe, record, ref

RETURNS = "The response; with stream, events that end with the response as it became."
OBJECT: Json = {"type": "object"}
FLAG: Json = {"type": "boolean"}
USAGE = record(
    input_tokens=COUNT,
    input_tokens_details=record(cached_tokens=COUNT, cache_write_tokens=COUNT),
    output_tokens=COUNT,
    output_tokens_details=record(reasoning_tokens=COUNT),
    total_tokens=COUNT,
)
ITEM = record(type=TEXT, id=TEXT)
RESPONSE = record(
    id=TEXT,
    object={"enum": ["response"]},
    created_at=COUNT,
    completed_at=maybe(COUNT),
    status={"enum": ["completed", "failed", "in_progress", "incomplete"]},
    error=maybe(record(code=TEXT, message=TEXT)),
    incomplete_details=maybe(record(reason=TEXT)),
    model=TEXT,
    output=listed(ITEM),
    usage=maybe(USAGE),
    previous_response_id=maybe(TEXT),
    instructions=maybe(TEXT),
    max_output_tokens=maybe(COUNT),
    max_tool_calls=maybe(COUNT),
    user=maybe(TEXT),
    safety_identifier=maybe(TEXT),
    prompt_cache_key=maybe(TEXT),
    metadata=OBJECT,
    reasoning=OBJECT,
    text=OBJECT,
    tools=listed(OBJECT),
    tool_choice={"anyOf": [TEXT, OBJECT]},
    parallel_tool_calls=FLAG,
    temperature=NUMBER,
    top_p=NUMBER,
    top_logprobs=COUNT,
    presence_penalty=NUMBER,
    frequency_penalty=NUMBER,
    truncation=TEXT,
    store=FLAG,
    background=FLAG,
    service_tier=TEXT,
)
EVENT = record(type=TEXT, sequence_number=COUNT)
ITEM_LIST = record(object={"enum": ["list"]}, data=listed(ITEM), first_id=maybe(TEXT), last_id=maybe(TEXT))
ITEM_LIST["properties"]["has_more"] = FLAG
DELETED = record(id=TEXT, object={"enum": ["response"]}, deleted=FLAG)
COUNTED = record(object={"enum": ["response.input_tokens"]}, input_tokens=COUNT)
ANSWERS: Json = {"Response": RESPONSE, "ResponseEvent": EVENT}
SENT = {"type": "string", "contentMediaType": "application/json", "contentSchema": ref("ResponseEvent")}
CONTENT: Json = {
    "application/json": {"schema": ref("Response")},
    "text/event-stream": {"itemSchema": record(event=TEXT, data=SENT)},
}
