"""What a client is asked and what it gives back: plain frozen data. No MLX, no HTTP, no engine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..core import Finish, Memory, RequestError, Usage
from ..parts import AnswerPart, Arguments, CallBegun, CallEnded, Piece, Token, joined
from ..turns import Tool
from .options import Options
from .paint import bars, painted
from .pictures import contents_of

Message = Mapping[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")


class ClientError(RuntimeError):
    """The model or its server broke or left, told in one sentence; `reply` is what came until then."""

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What the model asked a tool, and what that gave back where it was run."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    result: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """An answer: `text`, and beside it what was thought, how it ended and how long it took."""

    text: str
    reasoning: str = ""
    finish: Finish = Finish.STOP
    usage: Usage | None = None
    tokens: tuple[Token, ...] = ()
    reason: str | None = None
    parts: tuple[AnswerPart, ...] = ()  # all of it in order: thoughts may come again after text
    ran: tuple[ToolCall, ...] = ()  # the tools that were run on the way to it

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tools that it asks for."""
        begun = {part.index: part for part in self.parts if isinstance(part, CallBegun)}
        texts = dict.fromkeys(begun, "")
        for part in self.parts:
            if isinstance(part, Arguments):
                texts[part.index] += part.text
        whole = [part.index for part in self.parts if isinstance(part, CallEnded)]
        return tuple(ToolCall(begun[index].id, begun[index].name, arguments_of(texts[index])) for index in whole)

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Reply:
        whole = joined(pieces) if pieces else Piece()
        finish = whole.finish or Finish.CANCELLED
        return cls(whole.content, whole.reasoning, finish, whole.usage, whole.tokens, whole.reason, whole.parts)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        tokens = "" if self.usage is None else f", {self.usage.output_tokens} tokens"
        return f"Reply({self.text!r}, {self.finish}{tokens})"

    def _repr_html_(self) -> str:
        return painted(self.text, self.reasoning, self.tokens)


def arguments_of(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"input": text}


@dataclass(frozen=True)
class Score:
    """How likely a model finds a text: each token with its log-probability, the first one with none."""

    text: str
    tokens: tuple[Token, ...]

    @cached_property
    def logprob(self) -> float:
        """Of all tokens after the first, together."""
        return math.fsum(token.logprob for token in self.tokens if not math.isnan(token.logprob))

    @property
    def perplexity(self) -> float:
        """Between so many tokens the model was undecided, on average."""
        return math.exp(-self.logprob / max(1, len(self.tokens) - 1))

    def __repr__(self) -> str:
        return f"Score({len(self.tokens)} tokens, perplexity {self.perplexity:.4g})"

    def _repr_html_(self) -> str:
        return painted(self.text, "", self.tokens)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A text, how well it answers (0 to 1), and where it stood."""

    score: float
    text: str
    index: int


class Held(Memory):
    """Memory as a notebook shows it."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return bars(self)


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What the headers of a model tell, and what the plan makes of it."""

    name: str
    family: str
    layers: int
    bits: float  # of a weight as it is stored, all together; 0: it is not here
    bytes: int  # that it takes in memory, with a usual context
    fits: bool
    context: int  # the longest that fits
    longest: int  # that its authors promise
    speed: float | None  # tokens a second, forecast
    copies: int  # bytes of what was made of it


@dataclass(frozen=True, slots=True)
class ModelInfo:
    name: str
    place: str | None = None  # folder or file; None: not on this machine yet, or a server does not tell
    bytes: int | None = None  # of its weights on disk
    loaded: bool = False
    context: int | None = None  # tokens that it has, or could have; None: nobody told


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One of the hub."""

    name: str
    fetched: int  # times in the last thirty days


@dataclass(frozen=True, slots=True)
class Asking:
    """A conversation to answer, or else a text to go on with."""

    options: Options
    messages: tuple[Message, ...] = ()
    prompt: str | Sequence[int] | None = None
    tools: tuple[Tool, ...] = ()  # that may be called


def conversation(messages: str | Sequence[Message], system: str | None = None) -> tuple[Message, ...]:
    if system is not None and not isinstance(system, str):
        raise RequestError(f"system must be text, not {system!r}.")
    first = () if system is None else ({"role": "system", "content": system},)
    if isinstance(messages, str):
        return (*first, {"role": "user", "content": messages})
    if not isinstance(messages, list | tuple):
        raise RequestError(f"messages must be text or a list of messages, not {type(messages).__name__}.")
    if not messages:
        raise RequestError("messages is empty; give at least one message.")
    return (*first, *map(spoken, messages))


def spoken(message: Any) -> Message:
    """A message as chat templates know it: they have no developer, and the content is one text, or a list of texts and
    pictures where there are any."""
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise RequestError("Each message must be an object with a role and content.")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise RequestError(f"A message's role must be one of {', '.join(ROLES)}, not {role!r}.")
    parts = contents_of(content, message.get("images"))
    if parts is None:
        raise RequestError("A message's content must be text, or a list of texts and pictures.")
    texts = [part for part in parts if isinstance(part, str)]
    told = {key: value for key, value in message.items() if key != "images"}
    content = "\n".join(texts) if len(texts) == len(parts) else parts
    return {**told, "role": "system" if role == "developer" else role, "content": content}
