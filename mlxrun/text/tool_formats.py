"""How models write tool calls: one entry a format, and nothing but entries.

To add a format, add an entry to FORMATS: the parser (`tool_parser`), the grammar (`tool_grammar`) and the detection
(`tool_probe`) all read it. Knows no text, no state and no model.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import Enum, auto


class CallPlace(Enum):
    ANYWHERE = auto()
    START = auto()  # only at the start of the answer


class Ids(Enum):
    FREE = auto()
    NINE = auto()  # exactly nine letters and digits
    COUNTED = auto()  # functions.NAME:N, counted over the whole conversation


class InThoughts(Enum):
    ENDS = auto()  # a call's opener ends the thoughts
    INSIDE = auto()  # a call may stand within them
    TEXT = auto()  # there it is text


# heads: how a call's name is written


@dataclass(frozen=True, slots=True)
class TextHead:
    """A text with {name}, {id} or {n} in it, before the arguments."""

    text: str
    also: tuple[str, ...] = ()  # others that the parser takes and the grammar never makes


@dataclass(frozen=True, slots=True)
class JsonHead:
    """The call is one JSON object, and these of its keys say what is called. `name_is_key`: {"NAME": {arguments}}."""

    name: str = "name"
    args: str = "arguments"
    id: str | None = None
    id_first: bool = False  # else it stands behind the arguments
    name_is_key: bool = False


@dataclass(frozen=True, slots=True)
class RecipientHead:
    """Harmony's: a recipient in a message's header. The only head that is read by code (`harmony`)."""

    to: str = "functions.{name}"


# styles of arguments


@dataclass(frozen=True, slots=True)
class JsonArgs:
    """A JSON object."""


@dataclass(frozen=True, slots=True)
class PythonArgs:
    """Keyword arguments as Python writes literals."""

    true: str = "True"
    false: str = "False"
    none: str = "None"


class Strings(Enum):
    BY_SCHEMA = auto()  # what the schema calls a string is raw, anything else is JSON
    BY_ATTR = auto()  # an attribute of the opener, {raw}, says which


@dataclass(frozen=True, slots=True)
class TaggedArgs:
    """One tagged parameter after the other; `open` holds {key}, and {raw} where strings are told BY_ATTR."""

    open: str
    close: str
    strings: Strings = Strings.BY_SCHEMA
    raw: str = "true"  # what {raw} says of a string
    other: str | None = "false"  # and of anything else; None: the JSON type's name


@dataclass(frozen=True, slots=True)
class BareArgs:
    """An object whose keys have no quotes, and whose strings have `quote` on both sides."""

    quote: str


@dataclass(frozen=True, slots=True)
class ToolFormat:
    id: str
    head: TextHead | JsonHead | RecipientHead
    args: JsonArgs | PythonArgs | TaggedArgs | BareArgs = JsonArgs()
    _: KW_ONLY
    call: tuple[str, str | None] = ("", "")  # close None: at the next opener or the end
    section: tuple[str, str] | None = None  # round all calls of an answer
    between: str = "\n"  # calls
    place: CallPlace = CallPlace.ANYWHERE
    tail: str = ""  # between arguments and closer
    ids: Ids = Ids.FREE
    also: tuple[str, ...] = ()  # for the answer's first opener: others that the parser takes and the grammar never
    # makes; "": the head may come without any
    fences: tuple[tuple[str, str], ...] = ()  # marks round one call that small models write in place of `call`: taken
    # by the parser, never made by the grammar
    in_thoughts: InThoughts = InThoughts.ENDS
    stops: tuple[str, ...] = ()  # tokens after which the model waits for results
    one_per_turn: bool = False


TOOL_CALL = "<tool_call>", "</tool_call>"
TOOL_CALL_LINES = "<tool_call>\n", "\n</tool_call>"
DEEPSEEK_SECTION = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
DEEPSEEK_CALL = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
LFM2_SECTION = "<|tool_call_start|>[", "]<|tool_call_end|>"
FUNCTION = TextHead("<function={name}>\n")
QWEN_ARGS = TaggedArgs("<parameter={key}>\n", "\n</parameter>\n")
GLM_LINES = TaggedArgs("<arg_key>{key}</arg_key>\n<arg_value>", "</arg_value>\n")
DSML_HEAD = TextHead('<｜DSML｜invoke name="{name}">\n')
DSML_ARGS = TaggedArgs('<｜DSML｜parameter name="{key}" string="{raw}">', "</｜DSML｜parameter>\n", Strings.BY_ATTR)

JSON_FORMATS = (  # every call is a JSON object
    ToolFormat(  # Qwen 2.5 and 3, Granite 4, Hermes, SmolLM3; Qwen 2.5 coder writes code blocks, or no marks at all
        "hermes", JsonHead(), call=TOOL_CALL_LINES, also=("",), fences=(("```json\n", "\n```"),)
    ),
    ToolFormat("reka", JsonHead(), call=TOOL_CALL_LINES, between=""),
    ToolFormat("exaone", JsonHead(), call=TOOL_CALL),
    ToolFormat("phi4-tags", JsonHead(), call=("<|tool_call|>", "<|/tool_call|>"), between=""),  # its repaired template
    ToolFormat(
        "llama3",
        JsonHead(args="parameters"),
        call=("", None),
        between="; ",
        place=CallPlace.START,
        also=("<|python_tag|>",),
    ),
    ToolFormat("gigachat3", JsonHead(), call=("function call<|role_sep|>\n", None), one_per_turn=True),
    ToolFormat("gigachat3.1", JsonHead(), call=("<|function_call|>", None), one_per_turn=True),
    ToolFormat("mistral3", JsonHead(id="id"), section=("[TOOL_CALLS][", "]"), between=", ", ids=Ids.NINE),  # and 7
    ToolFormat("granite3", JsonHead(), section=("<|tool_call|>[", "]"), between=", ", also=("<tool_call>[",)),
    ToolFormat("phi4", JsonHead(), section=("functools[", "]"), between=", "),
    ToolFormat("nemotron2", JsonHead(), section=("<TOOLCALL>[", "]</TOOLCALL>"), between=", "),  # Nano v2, Super
    ToolFormat("jamba", JsonHead(), section=("<tool_calls>[", "]</tool_calls>"), between=", "),  # Apriel
    ToolFormat("lfm2-json", JsonHead(), section=LFM2_SECTION, between=", "),
    ToolFormat("minimax1", JsonHead(), section=("<tool_calls>\n", "\n</tool_calls>")),
    ToolFormat(
        "command",  # R7B, A
        JsonHead("tool_name", "parameters", id="tool_call_id", id_first=True),
        section=("<|START_ACTION|>[\n    ", "\n]<|END_ACTION|>"),
        between=",\n    ",
    ),
    ToolFormat("apertus", JsonHead(name_is_key=True), section=("<|tools_prefix|>[", "]<|tools_suffix|>"), between=", "),
)

NAMED_FORMATS = (  # a name, then its arguments as a JSON object
    ToolFormat(
        "mistral11",  # Small 3.2
        TextHead("{name}[CALL_ID]{id}[ARGS]", also=("{name}[ARGS]",)),
        call=("[TOOL_CALLS]", None),
        between="",
        ids=Ids.NINE,
    ),
    ToolFormat(
        "mistral13",  # Ministral 3, Devstral
        TextHead("{name}[ARGS]", also=("{name}[CALL_ID]{id}[ARGS]",)),
        call=("[TOOL_CALLS]", None),
        between="",
        ids=Ids.NINE,
        in_thoughts=InThoughts.INSIDE,
    ),
    ToolFormat(
        "deepseek3",  # and R1
        TextHead("function<｜tool▁sep｜>{name}\n```json\n"),
        call=DEEPSEEK_CALL,
        section=DEEPSEEK_SECTION,
        tail="\n```",
    ),
    ToolFormat(
        "deepseek3.1", TextHead("{name}<｜tool▁sep｜>"), call=DEEPSEEK_CALL, section=DEEPSEEK_SECTION, between=""
    ),
    ToolFormat(
        "kimi2",
        TextHead("functions.{name}:{n}<|tool_call_argument_begin|>"),
        call=("<|tool_call_begin|>", "<|tool_call_end|>"),
        section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        between="",
        ids=Ids.COUNTED,
    ),
    ToolFormat(
        "solar",
        TextHead("{id}<|tool_call:name|>{name}<|tool_call:args|>"),
        call=("<|tool_call:begin|>", "<|tool_call:end|>"),
        section=("<|tool_calls|>", "<|calls|>"),
        between="",
    ),
    ToolFormat("functionary3.1", TextHead("<function={name}>"), between="", tail="</function>"),
    ToolFormat("harmony", RecipientHead(), call=("", "<|call|>"), one_per_turn=True),  # gpt-oss
)

TAGGED_FORMATS = (
    # Qwen 3.5 and later, Nemotron 3, MiMo
    ToolFormat("qwen3-coder", FUNCTION, QWEN_ARGS, call=TOOL_CALL_LINES, tail="</function>", also=("",)),
    ToolFormat("step3.5", FUNCTION, QWEN_ARGS, call=TOOL_CALL_LINES, between="", tail="</function>", also=("",)),
    ToolFormat(
        "seed",
        FUNCTION,
        TaggedArgs("<parameter={key}>", "</parameter>\n"),
        call=("<seed:tool_call>\n", "\n</seed:tool_call>"),
        tail="</function>",
        also=("",),
    ),
    ToolFormat("glm4.5", TextHead("{name}\n"), GLM_LINES, call=TOOL_CALL),
    ToolFormat(
        "glm4.7",  # GLM 5, Laguna
        TextHead("{name}"),
        TaggedArgs("<arg_key>{key}</arg_key><arg_value>", "</arg_value>"),
        call=TOOL_CALL,
        between="",
    ),
    ToolFormat(
        "ling3",
        TextHead("{name}\n"),
        TaggedArgs("<arg_key>{key}</arg_key>\n<arg_value>", "</arg_value>"),
        call=("<tool_call>", "\n</tool_call>"),
    ),
    ToolFormat(
        "hunyuan3",
        TextHead("{name}<tool_sep:opensource>\n"),
        TaggedArgs(
            "<arg_key:opensource>{key}</arg_key:opensource>\n<arg_value:opensource>", "</arg_value:opensource>\n"
        ),
        call=("<tool_call:opensource>", "</tool_call:opensource>"),
        section=("<tool_calls:opensource>\n", "\n</tool_calls:opensource>"),
    ),
    ToolFormat(
        "deepseek3.2",
        DSML_HEAD,
        DSML_ARGS,
        section=("<｜DSML｜function_calls>\n", "\n</｜DSML｜function_calls>"),
        tail="</｜DSML｜invoke>",
    ),
    ToolFormat(
        "deepseek4",
        DSML_HEAD,
        DSML_ARGS,
        section=("<｜DSML｜tool_calls>\n", "\n</｜DSML｜tool_calls>"),
        tail="</｜DSML｜invoke>",
    ),
    ToolFormat(
        "minimax2",
        TextHead('<invoke name="{name}">\n'),
        TaggedArgs('<parameter name="{key}">', "</parameter>\n"),
        section=("<minimax:tool_call>\n", "\n</minimax:tool_call>"),
        tail="</invoke>",
    ),
    ToolFormat(
        "kimi3",
        TextHead('<|open|>call tool="{name}" index="{n}"<|sep|>'),
        TaggedArgs(
            '<|open|>argument key="{key}" type="{raw}"<|sep|>',
            "<|close|>argument<|sep|>",
            Strings.BY_ATTR,
            raw="string",
            other=None,
        ),
        section=("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),
        between="",
        tail="<|close|>call<|sep|>",
    ),
)

OTHER_FORMATS = (  # Python's calls; objects with bare keys
    ToolFormat(
        "llama4",  # and 3.2
        TextHead("{name}("),
        PythonArgs(),
        section=("[", "]"),
        between=", ",
        place=CallPlace.START,
        tail=")",
        also=("<|python_start|>[", "<|python_tag|>["),
    ),
    ToolFormat("lfm2", TextHead("{name}("), PythonArgs(), section=LFM2_SECTION, between=", ", tail=")"),
    ToolFormat(
        "olmo3",
        TextHead("{name}("),
        PythonArgs("true", "false", "null"),
        section=("<function_calls>", "</function_calls>"),
        tail=")",
    ),
    ToolFormat(
        "gemma4",
        TextHead("{name}"),
        BareArgs('<|"|>'),
        call=("<|tool_call>call:", "<tool_call|>"),
        between="",
        stops=("<|tool_response>",),
    ),
    ToolFormat(
        "functiongemma",
        TextHead("{name}"),
        BareArgs("<escape>"),
        call=("<start_function_call>call:", "<end_function_call>"),
        between="",
        stops=("<start_function_response>",),
    ),
)

FORMATS: tuple[ToolFormat, ...] = JSON_FORMATS + NAMED_FORMATS + TAGGED_FORMATS + OTHER_FORMATS
