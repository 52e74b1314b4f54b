"""How models write tool calls: one entry a format, and nothing but entries.

To add a format, add an entry to FORMATS: the parser (`tool_parser`), the grammar (`tool_grammar`) and the detection
(`tool_probe`) all read it. Knows no text, no state and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class BareArgs:
    """An object whose keys have no quotes, and whose strings have `quote` on both sides."""

    quote: str


@dataclass(frozen=True, slots=True)
class ToolFormat:
    id: str
    call: tuple[str, str | None]  # close None: at the next opener or the end
    head: TextHead | JsonHead | RecipientHead
    args: JsonArgs | PythonArgs | TaggedArgs | BareArgs = JsonArgs()
    section: tuple[str, str] | None = None  # round all calls of an answer
    between: str = "\n"  # calls
    place: CallPlace = CallPlace.ANYWHERE
    tail: str = ""  # between arguments and closer
    ids: Ids = Ids.FREE
    also: tuple[str, ...] = ()  # for the answer's first opener: others that the parser takes and the grammar never
    # makes; "": the head may come without any
    in_thoughts: InThoughts = InThoughts.ENDS
    stops: tuple[str, ...] = ()  # tokens after which the model waits for results
    one_per_turn: bool = False


FORMATS: tuple[ToolFormat, ...] = (
    ToolFormat("hermes", ("<tool_call>\n", "\n</tool_call>"), JsonHead()),  # Qwen 2.5 and 3, Granite 4
)
