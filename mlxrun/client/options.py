"""How an answer should be made: the options by name for who writes them, and checked for who sends them on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, TypedDict

from ..core import NUMBERS, Constraint, RequestError, Sampling, Shape

CONSTRAINTS = {
    "json_schema": Shape.JSON_SCHEMA,
    "regex": Shape.REGEX,
    "choice": Shape.CHOICE,
    "grammar": Shape.LARK,
}
WHOLE = ("top_k", "seed", "repeat_last_n", "min_tokens", "dry_allowed_length", "dry_penalty_last_n")
KINDS: dict[str, type[Any]] = dict.fromkeys(NUMBERS, Real)
KINDS |= dict.fromkeys((*WHOLE, "max_tokens", "logprobs"), Integral)


class AnswerOptions(TypedDict, total=False):
    """What may be said of an answer by name. None, or left out: as the model's authors recommend, or no limit."""

    temperature: float | None  # 0: greedy
    top_p: float | None
    top_k: int | None
    min_p: float | None
    top_n_sigma: float | None
    typical_p: float | None
    xtc_probability: float | None
    xtc_threshold: float | None
    repetition_penalty: float | None
    repeat_last_n: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    dry_penalty_last_n: int | None
    mirostat_tau: float | None  # above 0: mirostat 2
    mirostat_eta: float | None
    min_tokens: int | None
    seed: int | None
    max_tokens: int | None
    stop: str | Sequence[str]
    logprobs: int | bool | None  # how many alternatives to report at each token; 0: only the token's own
    template: Mapping[str, Any]  # extra variables of the chat template
    json_schema: Mapping[str, Any] | None  # the answer is JSON that this describes; or
    regex: str | None  # the whole of it matches; or
    choice: Sequence[str]  # it is one of these; or
    grammar: str | None  # it is what this Lark grammar, as llguidance reads it, describes


@dataclass(frozen=True, slots=True)
class Options:
    """The same, checked."""

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
    template: Mapping[str, Any] = field(default_factory=dict)  # extra variables of the chat template
    json_schema: Mapping[str, Any] | None = None  # the answer is JSON that this describes; or
    regex: str | None = None  # the whole of it matches; or
    choice: tuple[str, ...] = ()  # it is one of these; or
    grammar: str | None = None  # it is what this Lark grammar, as llguidance reads it, describes

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        known = [option.name for option in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if "n" in unknown:
            raise RequestError("n is no option: chat_many and complete_many give several answers.")
        if unknown:
            raise RequestError(f"There is no option {unknown[0]!r}; the options are {', '.join(known)}.")
        logprobs = given.get("logprobs")
        if isinstance(logprobs, bool):
            logprobs = 0 if logprobs else None
        counted: dict[str, Any] = {
            name: number(name, value) for name, value in {**given, "logprobs": logprobs}.items() if name in KINDS
        }
        stop, template = stops(given.get("stop")), given.get("template") or {}
        if not isinstance(template, Mapping):
            raise RequestError(f"template must be a dict of variables for the chat template, not {template!r}.")
        shaped = {name: given[name] for name in CONSTRAINTS if given.get(name)}
        options = cls(**{**counted, **shaped, "stop": stop, "template": template})
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
        """The options of answer number `index` of several: drawn apart also where a seed is given."""
        return self if self.seed is None else replace(self, seed=(self.seed + index) % 2**64)


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
