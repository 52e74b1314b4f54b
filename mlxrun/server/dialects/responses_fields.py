"""The fields of OpenAI's Responses: what is honoured, what is ignored, what is refused. Knows no model.

Items and tools are many things, told apart by their `type`: each has a schema of its own, and `by_type` finds it.
Fields of an item that are not named here are passed over: programs send back what they were given, and more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..check import check, shown
from ..dialect import Body
from ..errors import ApiError
from ..fields import Schema, either, fixed, flag, lists, neutral, number, one_of, text, whole
from .openai_constraints import CONSTRAINTS, SCHEMA, UNHEEDED
from .openai_fields import IGNORED_ABOUT, MAX_TOP, SAMPLERS

MAX_TOOLS = 512
NAME = "^[A-Za-z0-9_.:-]{1,128}$"
ANYTHING: Schema = {"type": "object"}


def ignored(kind: str) -> Schema:
    return {"type": kind, "description": IGNORED_ABOUT}


def open_object(*required: str, **properties: Schema) -> Schema:
    """An object with these properties, and perhaps others that nobody reads."""
    return {"type": "object", "properties": properties, "required": list(required)}


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
    "input": either(text(), lists(ANYTHING), about="A text, or the conversation's items in order."),
    "instructions": text("What stands before everything else, for this answer alone."),
    "previous_response_id": text("The answer that this one goes on from; its conversation stands before the input."),
    "reasoning": REASONING,
    "text": TEXT,
    "tools": lists(
        ANYTHING, "Of the types function, custom and namespace; hosted ones are left out.", maxItems=MAX_TOOLS
    ),
    "tool_choice": either(one_of("none", "auto", "required"), ANYTHING, about="Whether, or which, tools are called."),
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
    "service_tier": ignored("string"),
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
    max_output_tokens=whole("The most tokens of the answer; without it, what the context holds.", minimum=1),
    store=flag("Keep the answer for a day, to be gone on from. True where it is not said."),
    stream=flag("Send the answer event by event, as server-sent events."),
    include=lists(text(), "reasoning.encrypted_content and message.output_text.logprobs; others are ignored."),
    temperature=number("0: always the likeliest token.", minimum=0, maximum=100),
    top_p=number("Only the likeliest tokens that make up this share.", exclusiveMinimum=0, maximum=1),
    top_k=whole("Only so many of the likeliest tokens; 0: all.", minimum=0),
    min_p=number("Only tokens this likely relative to the likeliest.", minimum=0, maximum=1),
    seed=whole("The same seed gives the same answer.", minimum=0, maximum=2**64 - 1),
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

# of its items

MESSAGE_PARTS = ("input_text", "output_text", "text", "refusal", "input_image")
ROLES = ("system", "developer", "user", "assistant")
PART = {
    "input_text": open_object("text", text=text()),
    "output_text": open_object("text", text=text()),
    "text": open_object("text", text=text()),
    "refusal": open_object("refusal", refusal=text()),
    "reasoning_text": open_object("text", text=text()),
    "summary_text": open_object("text", text=text()),
    "input_image": open_object(image_url=text(), file_id=neutral(None)),
}
CALL = {"id": text(), "call_id": text(minLength=1), "name": text(minLength=1), "namespace": text()}
OUTPUT = {"id": text(), "call_id": text(minLength=1), "output": either(text(), lists(ANYTHING))}
ITEMS = {
    "message": open_object("role", "content", role=one_of(*ROLES), content=either(text(), lists(ANYTHING))),
    "function_call": open_object("call_id", "name", "arguments", **CALL, arguments=text()),
    "function_call_output": open_object("call_id", "output", **OUTPUT),
    "custom_tool_call": open_object("call_id", "name", "input", **CALL, input=text()),
    "custom_tool_call_output": open_object("call_id", "output", **OUTPUT),
    "reasoning": open_object(content=lists(ANYTHING), summary=lists(ANYTHING), encrypted_content=text()),
    "item_reference": open_object("id", id=text(minLength=1)),
    "additional_tools": open_object("tools", tools=lists(ANYTHING, maxItems=MAX_TOOLS)),
}

# of its tools

TOOL_NAME = text(minLength=1, maxLength=128)
FUNCTION = open_object("name", name=TOOL_NAME, description=text(), parameters=ANYTHING, strict=flag())
INPUT = {
    "text": open_object(),
    "grammar": open_object("syntax", "definition", syntax=one_of("lark", "regex"), definition=text(minLength=1)),
}
TOOLS = {
    "function": FUNCTION,
    "custom": open_object("name", name=TOOL_NAME, description=text(), format=ANYTHING),
    "namespace": open_object(
        "name", "tools", name=TOOL_NAME, description=text(), tools=lists(ANYTHING, maxItems=MAX_TOOLS)
    ),
}
HOSTED = (  # tools that OpenAI runs itself; the beginnings of their types, which may end in a date
    *("web_search", "file_search", "code_interpreter", "image_generation", "mcp", "computer", "local_shell", "shell"),
    *("tool_search", "apply_patch", "programmatic_tool_calling"),
)
CHOICES = {
    "function": open_object("name", name=text(minLength=1), namespace=text()),
    "custom": open_object("name", name=text(minLength=1), namespace=text()),
    "allowed_tools": open_object("mode", "tools", mode=one_of("auto", "required"), tools=lists(ANYTHING)),
}


def by_type(value: Body, schemas: Mapping[str, Schema], path: str, usual: str | None = None) -> str:
    """Which of these it is, checked as such. `usual`: where it does not say."""
    kind: Any = value.get("type", usual)
    if kind is None:
        raise ApiError(400, f"{path}.type is missing.", param=f"{path}.type")
    if not isinstance(kind, str) or kind not in schemas:
        known = ", ".join(schemas)
        raise ApiError(400, f"{path}.type must be one of {known}, not {shown(kind)}.", param=f"{path}.type")
    check(value, schemas[kind], path)
    return kind
