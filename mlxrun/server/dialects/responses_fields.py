"""The fields of OpenAI's Responses: what is honoured, what is ignored, what is refused. Knows no model.

Fields of an item that are not named here are passed over: programs send back what they were given, and more.
"""

from __future__ import annotations

from ..fields import Schema, either, fixed, flag, hosted_left_out, lists, neutral, one_of, tagged, text, unset, whole
from ..tools import MOST
from .openai_constraints import CONSTRAINTS, SCHEMA, UNHEEDED
from .openai_fields import COMMON, IGNORED_ABOUT, MAX_TOP, SAMPLERS, SERVICE_TIER

ANYTHING: Schema = {"type": "object"}


def ignored(kind: str) -> Schema:
    return {"type": kind, "description": IGNORED_ABOUT}


def open_object(*required: str, **properties: Schema) -> Schema:
    """An object with these properties, and perhaps others that nobody reads."""
    return {"type": "object", "properties": properties, "required": list(required)}


def kind_of(kind: str, *required: str, **properties: Schema) -> Schema:
    """The same, told from others by its type."""
    return open_object("type", *required, type=one_of(kind), **properties)


# of its tools

FUNCTION = kind_of("function", "name", name=text(), description=text(), parameters=ANYTHING, strict=flag())
GRAMMAR = kind_of("grammar", "syntax", "definition", syntax=one_of("lark", "regex"), definition=text(minLength=1))
CUSTOM = kind_of("custom", "name", name=text(), description=text(), format=tagged("type", kind_of("text"), GRAMMAR))
INNER = lists(tagged("type", FUNCTION, CUSTOM))
NAMESPACE = kind_of("namespace", "name", "tools", name=text(), description=text(), tools=INNER)
TOOLS = hosted_left_out(
    lists(tagged("type", FUNCTION, CUSTOM, NAMESPACE), "Tools that only their maker runs are left out.", maxItems=MOST)
)
NAMED = [kind_of(kind, "name", name=text(), namespace=text()) for kind in ("function", "custom")]
ALLOWED = kind_of(
    "allowed_tools", "mode", "tools", mode=one_of("auto", "required"), tools=lists(tagged("type", *NAMED))
)
ALLOWED["properties"]["tools"] = hosted_left_out(ALLOWED["properties"]["tools"])
CHOICE = either(
    one_of("none", "auto", "required"),
    tagged("type", *NAMED, ALLOWED),
    about="Whether tools may be called, must be, or which.",
)

# of its items

ROLES = ("system", "developer", "user", "assistant")
TEXTS = [kind_of(kind, "text", text=text()) for kind in ("input_text", "output_text", "text")]
REFUSAL = kind_of("refusal", "refusal", refusal=text())
IMAGE = kind_of("input_image", "image_url", image_url=text(), file_id=neutral(None))
CONTENT = either(text(), lists(tagged("type", *TEXTS, REFUSAL, IMAGE)))
MESSAGE = open_object(type=one_of("message"), id=text(), role=one_of(*ROLES), content=CONTENT)
MESSAGE["required"] = ["role", "content"]
CALL: dict[str, Schema] = {"id": text(), "call_id": text(minLength=1), "name": text(minLength=1), "namespace": text()}
OUTPUT: dict[str, Schema] = {"id": text(), "call_id": text(minLength=1), "output": CONTENT}
REASONING_ITEM = kind_of(
    "reasoning",
    id=text(),
    content=lists(tagged("type", kind_of("reasoning_text", "text", text=text()))),
    summary=lists(tagged("type", kind_of("summary_text", "text", text=text()))),
    encrypted_content=text(),
)
ITEM = tagged(
    "type",
    MESSAGE,
    kind_of("function_call", "call_id", "name", "arguments", **CALL, arguments=text()),
    kind_of("function_call_output", "call_id", "output", **OUTPUT),
    kind_of("custom_tool_call", "call_id", "name", "input", **CALL, input=text()),
    kind_of("custom_tool_call_output", "call_id", "output", **OUTPUT),
    REASONING_ITEM,
    kind_of("compaction", "encrypted_content", id=text(), encrypted_content=text(minLength=1)),
    kind_of("item_reference", "id", id=text(minLength=1)),
    kind_of("additional_tools", "tools", id=text(), tools=TOOLS),
    untagged="message",
)

# of a request

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
FORMAT: Schema = {
    **fixed(
        "type",
        type=one_of("text", "json_object", "json_schema"),
        name=text(UNHEEDED),
        description=text(UNHEEDED),
        schema=SCHEMA,
        strict=flag("Accepted and ignored: a schema is always held to."),
    ),
    "description": "Text, any JSON object, or JSON as a schema describes it.",
}
REASONING = fixed(
    effort=one_of(*EFFORTS, about="How much the model may think, where it can."),
    summary=one_of("auto", "concise", "detailed", about="Tell the thoughts as a summary; they are told whole."),
    generate_summary=one_of("auto", "concise", "detailed", about="The older name of summary."),
    context=ignored("string"),
    mode=neutral("standard"),
)
TEXT = fixed(format=FORMAT, verbosity=neutral("medium"))

ASKED: dict[str, Schema] = {
    "model": text("A model that is served, as GET /v1/models names it; may be left out."),
    "input": either(text(), lists(ITEM), about="A text, or the conversation's items in order."),
    "instructions": text("What stands before everything else, for this answer alone."),
    "previous_response_id": text("The answer that this one goes on from; its conversation stands before the input."),
    "reasoning": REASONING,
    "text": TEXT,
    "tools": TOOLS,
    "tool_choice": CHOICE,
    "parallel_tool_calls": flag("Several calls in one answer."),
    "truncation": one_of("auto", "disabled", about="Nothing is ever cut off: a prompt that is too long is an error."),
    "conversation": neutral(None),
}
IGNORED: dict[str, Schema] = {
    "metadata": {"type": "object", "description": "Told again in the answer."},
    "user": text("Told again in the answer."),
    "safety_identifier": text("Told again in the answer."),
    "prompt_cache_key": text("Told again in the answer."),
    "prompt_cache_retention": ignored("string"),
    "prompt_cache_options": ignored("object"),
    "service_tier": SERVICE_TIER,
    "client_metadata": ignored("object"),
    "request_country": ignored("string"),
    "access_programs": ignored("object"),
    "image": ignored("object"),
    "stream_options": ignored("object"),
    "max_tool_calls": whole("Of hosted tools, of which there are none.", minimum=1),
}
RESPONSE = fixed(
    "input",
    **ASKED,
    max_output_tokens=unset(whole("The most tokens of the answer; without it, what the context holds.", minimum=1)),
    store=flag("Keep the answer for a day, to be gone on from. True where it is not said."),
    stream=flag("Send the answer event by event, as server-sent events."),
    include=lists(text(), "reasoning.encrypted_content and message.output_text.logprobs; others are ignored."),
    **{name: COMMON[name] for name in ("temperature", "top_p", "top_k", "min_p", "seed")},
    top_logprobs=whole("Report so many of the likeliest tokens in each place.", minimum=0, maximum=MAX_TOP),
    **SAMPLERS,
    **CONSTRAINTS,
    **IGNORED,
    background=neutral(False),
    background_options=neutral(None),
    prompt=neutral(None),
    moderation=neutral(None),
    context_management=neutral(None, []),
)
COUNTED = fixed("input", **ASKED, personality=ignored("string"))
