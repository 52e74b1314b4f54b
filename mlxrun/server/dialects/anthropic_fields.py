"""The fields of Anthropic's Messages: what is honoured, what is ignored, what is refused. Knows no model."""

from __future__ import annotations

from ..fields import (
    COUNT,
    TEXT,
    Schema,
    either,
    fixed,
    flag,
    listed,
    lists,
    maybe,
    neutral,
    number,
    one_of,
    record,
    ref,
    tagged,
    text,
    unset,
    whole,
)

IGNORED_ABOUT = "Accepted and ignored: it does not change the answer."
MAX_STOPS = 64
MAX_TOOLS = 512
SEEN = {"type": "object", "description": IGNORED_ABOUT}
CACHED: dict[str, Schema] = {"cache_control": SEEN}
BILLING = "x-anthropic-billing-header:"  # begins a text that is new with every request: nothing after it were cached

TEXT_BLOCK = fixed(
    "type",
    "text",
    type=one_of("text"),
    text=text(),
    citations={"type": "array", "items": {}, "description": IGNORED_ABOUT},
    **CACHED,
)
IMAGE = fixed(
    "type",
    "source",
    type=one_of("image"),
    source=tagged(
        "type",
        fixed(
            "type",
            "media_type",
            "data",
            type=one_of("base64"),
            media_type=one_of("image/jpeg", "image/png", "image/gif", "image/webp"),
            data=text("The file in base64."),
        ),
    ),
    transformations=neutral(None, {}, {"oversized_image": "downsize"}),
    **CACHED,
)
DOCUMENT = fixed(
    "type",
    "source",
    type=one_of("document"),
    source=tagged(
        "type",
        fixed("type", "data", type=one_of("text"), media_type=one_of("text/plain"), data=text()),
        fixed(
            "type", "content", type=one_of("content"), content=either(text(), lists(tagged("type", TEXT_BLOCK, IMAGE)))
        ),
    ),
    title=text(),
    context=text(),
    citations=SEEN,
    **CACHED,
)
SEARCH_RESULT = fixed(
    "type",
    "source",
    "title",
    "content",
    type=one_of("search_result"),
    source=text(),
    title=text(),
    content=lists(TEXT_BLOCK),
    citations=SEEN,
    **CACHED,
)
SHOWN = (TEXT_BLOCK, IMAGE, DOCUMENT, SEARCH_RESULT)
TOOL_REFERENCE = fixed("type", "tool_name", type=one_of("tool_reference"), tool_name=text(), **CACHED)
TOOL_RESULT = fixed(
    "type",
    "tool_use_id",
    type=one_of("tool_result"),
    tool_use_id=text(minLength=1),
    content=either(text(), lists(tagged("type", *SHOWN, TOOL_REFERENCE))),
    is_error=flag("Whether the tool failed."),
    toolset_name=text(IGNORED_ABOUT),
    **CACHED,
)
TOOL_USE = fixed(
    "type",
    "id",
    "name",
    "input",
    type=one_of("tool_use"),
    id=text(minLength=1),
    name=text(minLength=1),
    input={"type": "object"},
    caller=SEEN,
    toolset_name=text(IGNORED_ABOUT),
    **CACHED,
)
THINKING_BLOCK = fixed(
    "type",
    "thinking",
    type=one_of("thinking"),
    thinking=text(),
    signature=text("As an answer had it; any is taken."),
    **CACHED,
)
REDACTED = fixed("type", type=one_of("redacted_thinking"), data=text("Left out of the prompt."), **CACHED)
BLOCKS = (*SHOWN, TOOL_RESULT, TOOL_USE, THINKING_BLOCK, REDACTED)

MESSAGE = fixed(
    "role",
    "content",
    role=one_of("user", "assistant", "system"),
    content=either(
        text(),
        lists(tagged("type", *BLOCKS)),
        about="Text, or blocks. tool_result is a user's; tool_use and thinking are an assistant's.",
    ),
)
TOOL = {
    "type": "object",
    "properties": {
        "name": text(minLength=1, maxLength=128),
        "type": text(
            "Any but custom is a tool of Anthropic's machines: it is left out and the answer's header says so."
        ),
        "description": text(),
        "input_schema": {"type": "object"},
        "strict": flag("A word of its schema that cannot be held to is an error."),
    },
    "required": ["name"],
}
PARALLEL: dict[str, Schema] = {"disable_parallel_tool_use": flag("At most one call in an answer.")}
TOOL_CHOICE = tagged(
    "type",
    fixed("type", type=one_of("auto"), **PARALLEL),
    fixed("type", type=one_of("any"), **PARALLEL),
    fixed("type", "name", type=one_of("tool"), name=text(minLength=1), **PARALLEL),
    fixed("type", type=one_of("none")),
)
DISPLAY = one_of("summarized", "omitted", about="omitted: thoughts are not shown, and travel in their signature.")
LEAST_BUDGET = 1024
THINKING = tagged(
    "type",
    fixed(
        "type",
        "budget_tokens",
        type=one_of("enabled"),
        budget_tokens=whole("Below max_tokens.", minimum=LEAST_BUDGET),
        display=DISPLAY,
    ),
    fixed("type", type=one_of("adaptive"), display=DISPLAY),
    fixed("type", type=one_of("between_tools"), display=DISPLAY),
    fixed("type", type=one_of("disabled")),
)
FORMAT = tagged("type", fixed("type", "schema", type=one_of("json_schema"), schema={"type": "object"}))
OUTPUT_CONFIG = fixed(
    effort=one_of("low", "medium", "high", "xhigh", "max", about="How much the model thinks, where it can be told."),
    format={**FORMAT, "description": "What the answer must be."},
    task_budget=neutral(None),
)
KEEP_ALL = one_of("all", {"type": "all"})
CONTEXT_MANAGEMENT = fixed(
    edits=lists(tagged("type", fixed("type", type=one_of("clear_thinking_20251015"), keep=KEEP_ALL)), IGNORED_ABOUT)
)

# what makes a prompt
PROMPT: dict[str, Schema] = {
    "model": text("One that GET /v1/models names."),
    "messages": lists(MESSAGE, "The conversation so far. An assistant's message at its end goes on.", minItems=1),
    "system": either(text(), lists(TEXT_BLOCK), about="Before the conversation."),
    "tools": lists(TOOL, maxItems=MAX_TOOLS),
    "tool_choice": TOOL_CHOICE,
    "thinking": THINKING,
    "output_config": OUTPUT_CONFIG,
    "output_format": {**FORMAT, "description": "The older name of output_config.format."},
}
IGNORED: dict[str, Schema] = {
    **CACHED,
    "metadata": SEEN,
    "service_tier": text(IGNORED_ABOUT),
    "inference_geo": text(IGNORED_ABOUT),
    "speed": text(IGNORED_ABOUT),
    "diagnostics": SEEN,
    "billing_policy": SEEN,
    "fallback_credit_token": text(IGNORED_ABOUT),
    "betas": lists(text(), IGNORED_ABOUT),
    "user_profile_id": text(IGNORED_ABOUT),
    "workspace_id": text(IGNORED_ABOUT),
    "context_management": CONTEXT_MANAGEMENT,
}
REFUSED: dict[str, Schema] = {
    "container": neutral(None),
    "mcp_servers": {"type": "array", "items": {}, "maxItems": 0, "x-unsupported": True},
    "fallbacks": {"type": "array", "items": {}, "maxItems": 0, "x-unsupported": True},
    "thread": neutral(None),
    "compaction": neutral(None),
}
MESSAGES = fixed(
    "messages",
    "max_tokens",
    **PROMPT,
    max_tokens=whole("The most tokens of the answer; never more than the context holds.", minimum=1),
    stop_sequences=lists(text(minLength=1, maxLength=1024), "The answer ends before one.", maxItems=MAX_STOPS),
    stream=flag("Send the answer piece by piece, as server-sent events."),
    temperature=number("0: always the likeliest token.", minimum=0, maximum=100),
    top_p=number("Only the likeliest tokens that make up this share.", minimum=0, maximum=1),
    top_k=unset(whole("Only so many of the likeliest tokens; 0: all.", minimum=0)),
    **IGNORED,
    **REFUSED,
)
COUNT_TOKENS = fixed("messages", **PROMPT, **IGNORED, **REFUSED)

ERROR = record(type=one_of("error"), error=record(type=TEXT, message=TEXT), request_id=TEXT)
USAGE = record(
    input_tokens=COUNT, cache_creation_input_tokens=COUNT, cache_read_input_tokens=COUNT, output_tokens=COUNT
)
ANSWER = record(
    id=TEXT,
    type=one_of("message"),
    role=one_of("assistant"),
    model=TEXT,
    content=listed(record(type=one_of("text", "thinking", "tool_use"))),
    stop_reason=maybe(TEXT),
    stop_sequence=maybe(TEXT),
    usage=USAGE,
)
EVENT = record(event=TEXT, data={"type": "string", "contentMediaType": "application/json"})
CONTENT = {"application/json": {"schema": ref("AnthropicMessage")}, "text/event-stream": {"itemSchema": EVENT}}
SCHEMAS = {"AnthropicMessage": ANSWER}
