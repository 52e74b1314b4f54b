"""The fields of OpenAI's requests: what is honoured, what is ignored, what is refused.

A field that would change the answer and is not honoured takes only its neutral value; one that changes
nothing stands in IGNORED; any other is left out and told (`left_out`). Knows no model.
"""

from __future__ import annotations

from ..check import UNSUPPORTED
from ..fields import Schema, either, fixed, flag, lists, neutral, number, one_of, text, unset, whole
from .openai_constraints import CONSTRAINTS, RESPONSE_FORMAT
from .openai_messages import MESSAGE
from .openai_tools import TOOLS

MAX_ANSWERS = 8  # to one request
MAX_STOPS = 16
COMPLETION_TOKENS = 16  # a text is continued by so many where the request does not say
MAX_TOP = 20

IGNORED_ABOUT = "Accepted and ignored: it does not change the answer."
IGNORED: dict[str, Schema] = {
    name: {"description": IGNORED_ABOUT, **kind}
    for name, kind in {
        "user": {"type": "string"},
        "safety_identifier": {"type": "string"},
        "prompt_cache_key": {"type": "string"},
        "prompt_cache_retention": {"type": "string"},
        "store": {"type": "boolean"},
        "metadata": {"type": "object"},
        "prediction": {"type": "object"},
        "prompt_cache_options": {"type": "object"},
        "cache_prompt": {"type": "boolean"},
        "timings_per_token": {"type": "boolean"},
        "return_progress": {"type": "boolean"},
    }.items()
}

SERVICE_TIER = text("flex: the answer goes where others leave room. Any other is accepted and ignored.")
MAX_BIASES = 1024
MAX_BREAKERS = 64

# OpenAI's own first, then the names that vLLM and llama.cpp have
SAMPLERS: dict[str, Schema] = {
    "presence_penalty": number("For tokens that the answer holds.", minimum=-2, maximum=2),
    "frequency_penalty": number("The same, as often as it holds them.", minimum=-2, maximum=2),
    "logit_bias": {
        "type": "object",
        "propertyNames": {"pattern": "^(0|[1-9][0-9]{0,8})$", "description": "ids of tokens"},
        "additionalProperties": number(minimum=-100, maximum=100),
        "maxProperties": MAX_BIASES,
        "description": "What is added to the logits of tokens, by their ids.",
    },
    "repetition_penalty": number("For tokens that the prompt or the answer holds; 1: none.", minimum=1e-30, maximum=10),
    "repeat_last_n": whole("Tokens that repetition_penalty looks back; 0: all.", minimum=0),
    "min_tokens": whole("The answer cannot stop by itself before.", minimum=0),
    "typical_p": number(
        "Only tokens as surprising as is usual here, which make up this share.", exclusiveMinimum=0, maximum=1
    ),
    "top_n_sigma": number("Only logits so many deviations from the largest; 0: all.", minimum=0, maximum=100),
    "xtc_probability": number("How often the likeliest tokens give way, where several are.", minimum=0, maximum=1),
    "xtc_threshold": number("From which share on XTC calls a token likely.", exclusiveMinimum=0, maximum=1),
    "dry_multiplier": number("For tokens that lengthen a repeated sequence; 0: none.", minimum=0, maximum=100),
    "dry_base": number("What each token more of it multiplies that by.", minimum=1, maximum=4),
    "dry_allowed_length": whole("Shorter repeated sequences are allowed.", minimum=1),
    "dry_penalty_last_n": whole("Tokens that DRY looks back; 0: all.", minimum=0),
    "dry_sequence_breakers": lists(
        text(minLength=1, maxLength=40), "Texts that no repeated sequence reaches across.", maxItems=MAX_BREAKERS
    ),
    "mirostat": one_of(0, 2, about="2: surprise is held near mirostat_tau, in place of the cuts."),
    "mirostat_tau": number("Of mirostat 2: bits of surprise.", exclusiveMinimum=0, maximum=100),
    "mirostat_eta": number("Of mirostat 2: how quickly it adapts.", minimum=0, maximum=1),
}

STREAM_OPTIONS = fixed(
    include_usage=flag("Send what was counted in one more chunk before the end."),
    include_obfuscation=flag(IGNORED_ABOUT),
)

COMMON: dict[str, Schema] = {
    "model": text("The model that is served, as GET /v1/models names it; may be left out."),
    "temperature": number("0: always the likeliest token.", minimum=0, maximum=100),
    "top_p": number("Only the likeliest tokens that make up this share; 0: the likeliest.", minimum=0, maximum=1),
    "top_k": unset(whole("Only so many of the likeliest tokens; 0: all.", minimum=0)),
    "min_p": number("Only tokens this likely relative to the likeliest.", minimum=0, maximum=1),
    "seed": unset(whole("The same seed gives the same answer; choice number i draws with seed + i.", minimum=0)),
    "stop": either(
        text(minLength=1, maxLength=1024),
        lists(text(minLength=1, maxLength=1024), maxItems=MAX_STOPS),
        about="The answer ends before the first of these.",
    ),
    "n": whole("How many answers.", minimum=1, maximum=MAX_ANSWERS, default=1),
    "stream": flag("Send the answer piece by piece, as server-sent events."),
    "stream_options": {**STREAM_OPTIONS, "description": "Only with stream."},
    "service_tier": SERVICE_TIER,
    **SAMPLERS,
    **CONSTRAINTS,
    **IGNORED,
}
COMMON["seed"]["maximum"] = 2**64 - 1

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

# arguments of the renderer itself
RESERVED_VARIABLES = ("self", "messages", "tools", "add_generation_prompt")

CHAT = fixed(
    "messages",
    messages=lists(MESSAGE, "The conversation so far.", minItems=1),
    **COMMON,
    max_completion_tokens=unset(whole("The most tokens of an answer; without it, what the context holds.", minimum=1)),
    max_tokens=unset(whole("The older name of max_completion_tokens.", minimum=1)),
    logprobs=flag("Report the log-probability of every token of the answer."),
    top_logprobs=whole("And of so many of the likeliest tokens in its place.", minimum=0, maximum=MAX_TOP),
    reasoning_effort=one_of(*EFFORTS, about="How much it should think; the nearest that the model has."),
    continue_final_message=flag("Go on with the last message, an assistant's; true where there is such a one."),
    add_generation_prompt=flag("Begin a new message; false where the last one, an assistant's, is gone on with."),
    chat_template_kwargs={
        "type": "object",
        "propertyNames": {"not": {"enum": list(RESERVED_VARIABLES)}},
        "description": "More variables for the chat template, such as enable_thinking.",
    },
    **TOOLS,
    mlxrun_mcp=lists(
        text(),
        "MCP servers, or server.tool, whose tools are called here; only where serve was given --mcp.",
        maxItems=64,
    ),
    functions={"type": "array", "items": {}, "maxItems": 0, UNSUPPORTED: True},
    function_call=neutral("none", "auto"),
    response_format=RESPONSE_FORMAT,
    modalities=neutral(["text"]),
    verbosity=neutral("medium"),
    audio=neutral(None),
    moderation=neutral(None),
    web_search_options=neutral(None),
)

IDS = lists(whole(minimum=0), minItems=1)
PROMPT = either(
    text(),
    IDS,
    lists(text(), minItems=1, maxItems=MAX_ANSWERS),
    lists(IDS, minItems=1, maxItems=MAX_ANSWERS),
    about=f"A text, its token ids, or several of either; with n, at most {MAX_ANSWERS} answers in all.",
)

COMPLETION = fixed(
    "prompt",
    prompt=PROMPT,
    **COMMON,
    max_tokens=unset(
        whole("The most tokens of one answer; 0 with echo: the prompt alone.", minimum=0, default=COMPLETION_TOKENS)
    ),
    logprobs=whole("Report log-probabilities, and so many of the likeliest tokens.", minimum=0, maximum=MAX_TOP),
    best_of=whole(
        "So many answers are made, and the n likeliest told; larger than n only without stream.",
        minimum=1,
        maximum=MAX_ANSWERS,
    ),
    response_format=RESPONSE_FORMAT,
    echo=flag("The answer begins with the prompt, and logprobs with those of its tokens."),
    suffix=text("What comes after the text that is asked for; of models that were taught to fill in."),
)
