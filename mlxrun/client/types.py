"""What a client is asked and what it gives back: plain frozen data. No MLX, no HTTP, no engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any

from ..core import NUMBERS, Constraint, Finish, Memory, RequestError, Sampling, Shape, Usage
from ..parts import AnswerPart, Piece, Token, joined
from .paint import bars, painted

Message = Mapping[str, Any]

ROLES = ("system", "developer", "user", "assistant")
CONSTRAINTS = {
    "json_schema": Shape.JSON_SCHEMA,
    "regex": Shape.REGEX,
    "choice": Shape.CHOICE,
    "grammar": Shape.LARK,
}
WHOLE = ("top_k", "seed", "repeat_last_n", "min_tokens", "dry_allowed_length", "dry_penalty_last_n")
KINDS: dict[str, type[Any]] = dict.fromkeys(NUMBERS, Real)
KINDS |= dict.fromkeys((*WHOLE, "max_tokens", "logprobs"), Integral)


class ClientError(RuntimeError):
    """The model or its server broke or left, told in one sentence; `reply` is what came until then."""

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reply = reply


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    text: str
    reasoning: str = ""
    finish: Finish = Finish.STOP
    usage: Usage | None = None
    tokens: tuple[Token, ...] = ()
    reason: str | None = None
    parts: tuple[AnswerPart, ...] = ()  # all of it in order: thoughts may come again after text

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


class Held(Memory):
    """Memory as a notebook shows it."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return bars(self)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    name: str
    place: str | None = None  # folder or file; None: not on this machine yet, or a server does not tell
    bytes: int | None = None  # of its weights on disk
    loaded: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How an answer should be made. None: as the model's authors recommend, or no limit."""

    temperature: float | None = None  # 0: greedy
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    top_n_sigma: float | None = None
    typical_p: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    mirostat_tau: float | None = None  # above 0: mirostat 2
    mirostat_eta: float | None = None
    min_tokens: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None  # how many alternatives to report at each token; 0: only the token's own
    n: int = 1
    template: Mapping[str, Any] = field(default_factory=dict)  # extra variables of the chat template
    json_schema: Mapping[str, Any] | None = None  # the answer is JSON that this describes; or
    regex: str | None = None  # the whole of it matches; or
    choice: tuple[str, ...] = ()  # it is one of these; or
    grammar: str | None = None  # it is what this Lark grammar, as llguidance reads it, describes

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        known = [option.name for option in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise RequestError(f"There is no option {unknown[0]!r}; the options are {', '.join(known)}.")
        logprobs = given.get("logprobs")
        if isinstance(logprobs, bool):
            logprobs = 0 if logprobs else None
        n = given.get("n", 1)
        if not isinstance(n, int) or not 1 <= n <= 8:
            raise RequestError(f"n must be a whole number from 1 to 8, not {n!r}.")
        counted: dict[str, Any] = {
            name: number(name, value) for name, value in {**given, "logprobs": logprobs}.items() if name in KINDS
        }
        stop, template = stops(given.get("stop")), given.get("template") or {}
        if not isinstance(template, Mapping):
            raise RequestError(f"template must be a dict of variables for the chat template, not {template!r}.")
        shaped = {name: given[name] for name in CONSTRAINTS if given.get(name)}
        options = cls(**{**counted, **shaped, "stop": stop, "template": template, "n": n})
        options.sampling(Sampling())  # refuses what makes no sense before anything is sent
        options.constraint  # noqa: B018 the same
        return options

    @property
    def constraint(self) -> Constraint | None:
        asked = [name for name in CONSTRAINTS if getattr(self, name)]
        if len(asked) > 1:
            raise RequestError(f"{asked[0]} and {asked[1]} both say what the answer must be; give one of them.")
        for name in asked:
            return constraint_of(name, getattr(self, name))
        return None

    def sampling(self, recommended: Sampling) -> Sampling:
        names = (*NUMBERS, "logprobs")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(recommended, **given)

    def one(self, index: int) -> Options:
        """The options of answer number `index` of n: drawn apart also where a seed is given."""
        seed = None if self.seed is None else (self.seed + index) % 2**64
        return replace(self, n=1, seed=seed)


@dataclass(frozen=True, slots=True)
class Asking:
    """A conversation to answer, or else a text to go on with."""

    options: Options
    messages: tuple[Message, ...] = ()
    prompt: str | None = None


def number(name: str, value: Any) -> int | float | None:
    """NumPy's numbers are numbers too; none of them can be written as JSON."""
    if value is None:
        return None
    if not isinstance(value, KINDS[name]) or isinstance(value, bool):
        kind = "a whole number" if KINDS[name] is Integral else "a number"
        raise RequestError(f"{name} must be {kind}, not {value!r}.")
    if name == "max_tokens" and value < 1:
        raise RequestError(f"max_tokens must be a whole number from 1 on, not {value}.")
    return int(value) if isinstance(value, Integral) else float(value)


def constraint_of(name: str, given: Any) -> Constraint:
    if name in ("regex", "grammar"):
        if not isinstance(given, str):
            raise RequestError(f"{name} must be text, not {given!r}.")
        return Constraint(CONSTRAINTS[name], given)
    if name == "choice" and (not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given)):
        raise RequestError(f"choice must be a list of texts, not {given!r}.")
    if name == "json_schema" and not isinstance(given, Mapping):
        raise RequestError(f"json_schema must be a dict, not {given!r}.")
    try:
        return Constraint(CONSTRAINTS[name], json.dumps(given))
    except (TypeError, ValueError) as error:
        raise RequestError(f"json_schema must be plain JSON: {error}.") from error


def stops(given: Any) -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else given or ()
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise RequestError(f"stop must be text or a list of texts, not {given!r}.")
    return tuple(found)


def conversation(messages: str | Sequence[Message]) -> tuple[Message, ...]:
    if isinstance(messages, str):
        return ({"role": "user", "content": messages},)
    if not isinstance(messages, list | tuple):
        raise RequestError(f"messages must be text or a list of messages, not {type(messages).__name__}.")
    if not messages:
        raise RequestError("messages is empty; give at least one message.")
    return tuple(map(spoken, messages))


def spoken(message: Any) -> Message:
    """A message as chat templates know it: they have no developer, and the content is one text."""
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise RequestError("Each message must be an object with a role and content.")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise RequestError(f"A message's role must be one of {', '.join(ROLES)}, not {role!r}.")
    if isinstance(content, list):
        texts: list[Any] = [part.get("text") for part in content if isinstance(part, Mapping)]
        good = content and len(texts) == len(content) and all(isinstance(text, str) for text in texts)
        content = "\n".join(texts) if good else None
    if not isinstance(content, str):
        raise RequestError("A message's content must be text, or a list of parts of the type text.")
    return {**message, "role": "system" if role == "developer" else role, "content": content}
