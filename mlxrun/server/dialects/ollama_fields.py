"""The fields of Ollama's requests: what is honoured, what is ignored, what is refused. Knows no model."""

from __future__ import annotations

from ..check import UNSUPPORTED
from ..fields import (
    COUNT,
    NUMBER,
    TEXT,
    Schema,
    either,
    fixed,
    flag,
    listed,
    lists,
    neutral,
    number,
    one_of,
    record,
    ref,
    text,
    whole,
)
from ..tools import MOST
from .openai_tools import FUNCTION

IGNORED_ABOUT = "Accepted and ignored: it does not change the answer."
MAX_STOPS = 64
MAX_TOP = 20
KEEP_ALIVE = either(
    number(),
    text(maxLength=40),
    about="How long the model stays loaded after this: seconds, or a time such as 5m; negative: for ever; 0: not.",
)


def _ignored(kind: str) -> Schema:
    return {"type": kind, "description": IGNORED_ABOUT}


OPTIONS = fixed(
    temperature=number("0: always the likeliest token.", minimum=0, maximum=100),
    top_p=number("Only the likeliest tokens that make up this share; 0: the likeliest.", minimum=0, maximum=1),
    top_k=whole("Only so many of the likeliest tokens; 0 and less: all."),
    min_p=number("Only tokens this likely relative to the likeliest.", minimum=0, maximum=1),
    typical_p=number("Only tokens as surprising as is usual here.", exclusiveMinimum=0, maximum=1),
    seed=whole("The same seed gives the same answer; below 0: any.", maximum=2**64 - 1),
    stop=either(text(maxLength=1024), lists(text(maxLength=1024), maxItems=MAX_STOPS), about="The answer ends before."),
    num_predict=whole("The most tokens of the answer; 0 and less: what the context holds."),
    repeat_penalty=number("For tokens of the last repeat_last_n; 1: none.", minimum=0.01, maximum=10),
    repeat_last_n=whole("Tokens that repeat_penalty looks back, usually 64; 0: it is off; -1: all.", minimum=-1),
    presence_penalty=number("For tokens that the answer holds.", minimum=-2, maximum=2),
    frequency_penalty=number("The same, as often as it holds them.", minimum=-2, maximum=2),
    mirostat=one_of(0, 2, about="2: surprise is held near mirostat_tau, in place of the cuts."),
    mirostat_tau=number("Of mirostat 2: bits of surprise.", exclusiveMinimum=0, maximum=100),
    mirostat_eta=number("Of mirostat 2: how quickly it adapts.", minimum=0, maximum=1),
    tfs_z=neutral(1, 1.0),
    **{name: _ignored("number") for name in ("num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread")},
    draft_num_predict=_ignored("number"),
    **{name: _ignored("boolean") for name in ("numa", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mmap")},
    **{name: _ignored("boolean") for name in ("use_mlock", "embedding_only", "penalize_newline")},
)
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
FORMAT = either(
    one_of("", "json"), {"type": "object"}, about="What the answer must be: any JSON object, or a JSON schema."
)
COMMON: dict[str, Schema] = {
    "model": text("One that GET /api/tags names.", minLength=1),
    "stream": {"type": "boolean", "default": True, "description": "Send the answer piece by piece, a line each."},
    "format": FORMAT,
    "options": OPTIONS,
    "keep_alive": KEEP_ALIVE,
    "think": either(flag(), one_of(*EFFORTS), about="Whether the model thinks first, or how much."),
    "logprobs": flag("Report the log-probability of every token of the answer."),
    "top_logprobs": whole("And of so many of the likeliest tokens in its place.", minimum=0, maximum=MAX_TOP),
    "truncate": flag("Accepted: nothing is ever left out of a prompt, one that is too long is an error."),
    "shift": flag("Accepted: an answer ends where the context does."),
}
IMAGES = lists(text("The file in base64."))
CALL = fixed(
    "function",
    id=text(),
    type=one_of("function"),
    function=fixed("name", name=text(minLength=1), arguments={"type": "object"}, index=_ignored("integer")),
)
MESSAGE = fixed(
    "role",
    role=one_of("system", "user", "assistant", "tool"),
    content=text(),
    images=IMAGES,
    thinking=text("The thoughts before an earlier answer."),
    tool_calls=lists(CALL),
    tool_name=text("Of a tool's result: which tool it is from."),
    tool_call_id=text("Of a tool's result: which call it answers."),
    name=text("The older name of tool_name."),
)
TOOL = fixed("function", type=one_of("function"), function=FUNCTION)
CHAT = fixed(
    "model",
    **COMMON,
    messages=lists(MESSAGE, "The conversation so far; without any the model is loaded, or unloaded by keep_alive 0."),
    tools=lists(TOOL, "What the model may call.", maxItems=MOST),
)
GENERATE = fixed(
    "model",
    **COMMON,
    prompt=text("What to answer; without it the model is loaded, or unloaded by keep_alive 0."),
    system=text("What goes before it."),
    images=IMAGES,
    raw=flag("The prompt goes on as it is, without a chat template."),
    suffix=neutral(""),
    template=neutral(""),
    context={"type": "array", "items": {}, "maxItems": 0, UNSUPPORTED: True},
    width=neutral(0),
    height=neutral(0),
    steps=neutral(0),
)

ERROR = record(error=TEXT)
COUNTS = dict.fromkeys(
    ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
    COUNT,
)
DETAILS = record(
    parent_model=TEXT,
    format=TEXT,
    family=TEXT,
    families=listed(TEXT),
    parameter_size=TEXT,
    quantization_level=TEXT,
)


def _answer(**said: Schema) -> Schema:
    told = record(model=TEXT, created_at=TEXT, done={"type": "boolean"}, **said)
    return {**told, "properties": {**told["properties"], "done_reason": TEXT, **COUNTS}}


CALLED = record(id=TEXT, function=record(index=COUNT, name=TEXT, arguments={"type": "object"}))
SAID = record(role=one_of("assistant"), content=TEXT)
SAID["properties"] |= {"thinking": TEXT, "tool_calls": listed(CALLED)}
LOGPROB = record(token=TEXT, logprob=NUMBER, bytes=listed(COUNT))
CHAT_SCHEMAS = {"OllamaChat": _answer(message=SAID)}
TEXT_SCHEMAS = {"OllamaText": _answer(response=TEXT)}


def content_of(name: str) -> Schema:
    """A line of a stream is an answer, or an error where it breaks off."""
    lines = {"anyOf": [ref(name), ERROR]}
    return {"application/json": {"schema": ref(name)}, "application/x-ndjson": {"itemSchema": lines}}
