"""What is asked, as data: a conversation in turns, the tools that may be called, how much may be thought.

The counterpart of `parts`: every dialect makes an `Ask` of its own words, and `text/` makes of it what one model's chat
template wants. Nothing here knows a template, a token or a field of HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .core import Constraint


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in a turn: a file of that MIME type."""

    type: str
    data: bytes


Content = str | Picture


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that was called in an earlier turn."""

    id: str
    name: str
    arguments: str  # a JSON object as text


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    content: tuple[Content, ...] = ()  # in order; neighbouring texts stand in lines of their own
    thoughts: str | None = None  # of an assistant, before its content
    calls: tuple[Call, ...] = ()  # of an assistant, after its content
    answers: str | None = None  # of a tool: the id of the call whose result this is
    failed: bool = False  # of a tool: the result tells a failure
    name: str | None = None  # who speaks, or which tool answers

    @property
    def text(self) -> str:
        return "\n".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Tool:
    """What the model may call. Its input is a JSON object of `parameters`; or, with `input`, a text, which travels as
    the property "input" of such an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False  # words of the schema that cannot be held to are an error; else they are left out and told
    input: Constraint | None = None  # a custom tool: what its text must be
    custom: bool = False


class Calling(StrEnum):
    AUTO = "auto"
    NONE = "none"  # the tools are shown and must not be called
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    calling: Calling = Calling.AUTO
    names: tuple[str, ...] = ()  # only these; empty: all. With REQUIRED and one name: that one
    parallel: bool = True  # several calls in one answer


@dataclass(frozen=True, slots=True)
class Thinking:
    """How much the model may think. None: as its template does where nobody says."""

    on: bool | None = None
    effort: str | None = None  # none, minimal, low, medium, high, xhigh, max: the nearest that the model has
    budget: int | None = None  # tokens of one block of thoughts, then its end is forced
    demanded: bool = False  # an error on a model that cannot think; else it is a permission


@dataclass(frozen=True, slots=True)
class Ask:
    """All that makes a prompt. How the answer is drawn and where it ends is the `Wish` beside it."""

    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice()
    thinking: Thinking = Thinking()
    continues: bool = False  # the last turn is an assistant's and goes on
    template: Mapping[str, Any] = field(default_factory=dict)  # more variables of the chat template
