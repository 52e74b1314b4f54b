"""The nouns everybody shares: what is asked, what comes back. No MLX, no text, no HTTP.

These are messages between parts and threads, so all of them are frozen. Token ids go in, token ids
come out; whoever holds text keeps it on its own side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Refusal(StrEnum):
    REQUEST = "request"  # it can never be served as it is
    CONTEXT = "context"  # its prompt is too long; a shorter one would be served
    BUSY = "busy"  # nothing is wrong with it; later it would be served
    QUEUE = "queue"  # nor with it, but as many wait already as may


class RequestError(ValueError):
    """A request that cannot be served, told in one sentence that names the field or limit."""

    refusal = Refusal.REQUEST


class ContextError(RequestError):
    """The prompt leaves no room in the context."""

    refusal = Refusal.CONTEXT

    def __init__(self, message: str, tokens: int | None = None, context: int | None = None) -> None:
        """`tokens`: of the prompt, or at least so many."""
        super().__init__(message)
        self.tokens, self.context = tokens, context


# of the keys and values that a sequence remembers; 16: as wide as they are computed, or half of that where products
# are not exact
KeyBits = Literal[16, 8]
USUAL_CONTEXT = 8192  # tokens that a plan is made for where none are asked for


def allowed_context(wanted: int | None, longest: int) -> int | None:
    """What a person asked for, once it is known to be possible."""
    if wanted is not None and not 2 <= wanted <= longest:
        raise RequestError(f"A context of {wanted} tokens was asked for; this model takes from 2 to {longest}.")
    return wanted


class Finish(StrEnum):
    STOP = "stop"  # a stop id, or the caller found a stop string
    LENGTH = "length"  # max_tokens or the context is used up
    CANCELLED = "cancelled"
    REFUSED = "refused"  # never started; Event.reason says why
    FAILED = "failed"  # started and broke; Event.reason says how
    EXPIRED = "expired"  # its deadline passed while it waited or ran; Event.reason says so


class Priority(StrEnum):
    INTERACTIVE = "interactive"  # somebody looks on
    BATCH = "batch"  # goes where the others leave room, and like them once it has waited for a while


NO_IDS: frozenset[int] = frozenset()


COLD = 1e-6  # temperatures below are 0: what is divided by them is no number any more


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose the next token.

    In this order: `bias`, `allowed`, `banned` and `min_tokens`; repetition, presence and frequency; DRY; temperature;
    then top-n-sigma, top-k, typical, top-p, min-p and XTC, each on what is left, or mirostat 2 in their place.
    Tokens that are equally likely stay or go together.
    """

    temperature: float = 1.0  # 0, and what is as good as that: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0
    seed: int | None = None
    logprobs: int | None = None  # how many alternatives to report; None: do not compute any
    top_n_sigma: float = 0.0  # 0: off
    typical_p: float = 1.0
    xtc_probability: float = 0.0  # that the likeliest give way, where several are likely
    xtc_threshold: float = 0.1
    repetition_penalty: float = 1.0  # of what the prompt or the answer holds
    presence_penalty: float = 0.0  # of what the answer holds
    frequency_penalty: float = 0.0  # the same, as often as it does
    repeat_last_n: int = 0  # tokens that repetition_penalty looks back; 0: all
    dry_multiplier: float = 0.0  # of a token that lengthens a repeated sequence; 0: off
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 0  # 0: all
    dry_breakers: frozenset[int] = NO_IDS  # tokens that no repeated sequence reaches across
    mirostat_tau: float = 0.0  # bits of surprise; 0: off
    mirostat_eta: float = 0.1
    bias: tuple[tuple[int, float], ...] = ()  # of token ids, before all else
    allowed: frozenset[int] | None = None
    banned: frozenset[int] = NO_IDS
    min_tokens: int = 0  # of the answer, before a stop id may come

    def __post_init__(self) -> None:
        penalties = "a number from -2 to 2"
        checks = (
            (0.0 <= self.temperature <= 100.0, "temperature", "a number from 0 to 100"),
            (0.0 < self.top_p <= 1.0, "top_p", "a number above 0, at most 1"),
            (self.top_k >= 0, "top_k", "a whole number, 0 for no limit"),
            (0.0 <= self.min_p <= 1.0, "min_p", "a number from 0 to 1"),
            (self.seed is None or 0 <= self.seed < 2**64, "seed", "a whole number from 0 to 2^64 - 1"),
            (self.logprobs is None or 0 <= self.logprobs <= 20, "logprobs", "a whole number from 0 to 20"),
            (0.0 <= self.top_n_sigma <= 100.0, "top_n_sigma", "a number from 0 to 100, 0 for no limit"),
            (0.0 < self.typical_p <= 1.0, "typical_p", "a number above 0, at most 1"),
            (0.0 <= self.xtc_probability <= 1.0, "xtc_probability", "a number from 0 to 1"),
            (0.0 < self.xtc_threshold <= 1.0, "xtc_threshold", "a number above 0, at most 1"),
            (1e-30 <= self.repetition_penalty <= 10.0, "repetition_penalty", "a number from 1e-30 to 10"),
            (-2.0 <= self.presence_penalty <= 2.0, "presence_penalty", penalties),
            (-2.0 <= self.frequency_penalty <= 2.0, "frequency_penalty", penalties),
            (self.repeat_last_n >= 0, "repeat_last_n", "a whole number, 0 for all"),
            (0.0 <= self.dry_multiplier <= 100.0, "dry_multiplier", "a number from 0 to 100"),
            (1.0 <= self.dry_base <= 4.0, "dry_base", "a number from 1 to 4"),
            (self.dry_allowed_length >= 1, "dry_allowed_length", "a whole number from 1 on"),
            (self.dry_penalty_last_n >= 0, "dry_penalty_last_n", "a whole number, 0 for all"),
            (0.0 <= self.mirostat_tau <= 100.0, "mirostat_tau", "a number from 0 to 100"),
            (0.0 <= self.mirostat_eta <= 1.0, "mirostat_eta", "a number from 0 to 1"),
            (self.min_tokens >= 0, "min_tokens", "a whole number"),
        )
        for good, name, wanted in checks:
            if not good:
                raise RequestError(f"{name} must be {wanted}, not {getattr(self, name)!r}.")
        for value in (value for _, value in self.bias):
            if not -100.0 <= value <= 100.0:
                raise RequestError(f"bias must be numbers from -100 to 100, not {value!r}.")
        if self.temperature < COLD:
            object.__setattr__(self, "temperature", 0.0)
        if self.temperature == 0 and self.mirostat_tau:
            raise RequestError("mirostat needs a temperature above 0: at 0 the likeliest token is taken, always.")
        if self.allowed is not None and not self.allowed - self.banned:
            raise RequestError("No token is left of those that are allowed.")

    @property
    def plain(self) -> bool:
        """Whether nothing but the logits of this step decide."""
        return self.edits == () and not self.needs_last

    @property
    def best_alone(self) -> bool:
        """Whether the likeliest token is all that is asked for."""
        return self.temperature == 0 and self.logprobs is None and self.plain

    @property
    def needs_last(self) -> bool:
        """Whether the token before must be known before the next can be drawn."""
        return bool(self.presence_penalty or self.frequency_penalty or self.looks_back or self.mirostat_tau)

    @property
    def edits(self) -> tuple[object, ...]:
        """Of single tokens, whatever was said so far."""
        return tuple(edit for edit in (self.bias, self.allowed, self.banned, self.min_tokens) if edit)

    @property
    def looks_back(self) -> bool:
        """Whether it matters what the prompt holds."""
        return self.repetition_penalty != 1.0 or self.dry_multiplier > 0.0

    @property
    def ids(self) -> frozenset[int]:
        """All that it names, but for breakers: of these a model need not know all."""
        return (self.allowed or NO_IDS) | self.banned | {token for token, _ in self.bias}


# the fields of a Sampling that are numbers, and what may be asked for by name
NUMBERS = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "top_n_sigma", "typical_p", "xtc_probability", "xtc_threshold"),
    *("repetition_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty", "min_tokens"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "mirostat_tau", "mirostat_eta"),
)


class Shape(StrEnum):
    """What the text of a `Constraint` is."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"  # a JSON array of strings, of which the answer is one
    LARK = "lark"  # a grammar as llguidance has them


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an answer must be; only tokens that can become that may be chosen."""

    shape: Shape
    text: str
    after: tuple[int, ...] | None = None  # nothing is forbidden until these tokens came: thoughts run free
    opener: int | None = None  # with `after`: only where the answer begins with this token, which may always come


class Pooling(StrEnum):
    """How the rows of a text become one vector."""

    MEAN = "mean"
    FIRST = "first"
    LAST = "last"
    MAX = "max"  # of each number


@dataclass(frozen=True, slots=True)
class LateForm:
    """How questions and texts are read where each token becomes a vector."""

    question: str  # the token that stands second in a question, and in a text
    document: str
    question_length: int  # rows that a question is filled up to, and is never longer than
    document_length: int
    fills: bool = True
    attends: bool = False  # other rows look at those that fill
    filler: str | None = None  # the token that fills; None: the one that masks
    skipped: tuple[str, ...] = ()  # tokens of texts that have no vector


@dataclass(frozen=True, slots=True)
class TokenVocabulary:
    """What the tokens of a model stand for, as data: whoever constrains an answer needs to know no tokenizer."""

    tokens: tuple[bytes, ...]  # by id; empty: it stands for nothing
    special: frozenset[int]  # never text
    ends: frozenset[int]  # each ends an answer
    encode: Callable[[str], Sequence[int]] = field(repr=False, compare=False)  # as the model was taught to split a text


@dataclass(frozen=True, slots=True)
class Closing:
    """What ends a block of thoughts that would grow longer than asked. Each block of an answer has the whole budget."""

    budget: int  # tokens of one block, but for what completes a character
    opener: tuple[int, ...]  # the tokens that begin a block,
    closer: tuple[int, ...]  # those that end it,
    forced: tuple[int, ...]  # and those that must come once the budget is used up
    opened: bool  # by the prompt
    spell: Callable[[int], bytes] = field(repr=False, compare=False)  # what a token stands for


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture, or a part of one, as patches: what a tower makes rows of."""

    key: bytes  # a digest: tiles with the same are the same
    rows: int  # that it takes in a prompt
    grid: tuple[int, int]  # patches down and across
    data: bytes = field(repr=False)  # of each patch its colours, row by row
    shape: tuple[int, int] | None = None  # of its rows down and across, where they turn by that; None: as words do


@dataclass(frozen=True, slots=True)
class ShownTile:
    """A tile in a prompt."""

    tile: Tile
    spans: tuple[tuple[int, int], ...]  # (first token, how many), in whose places its rows come, in order
    whole: bool = False  # its rows see each other: they are read in one pass

    @property
    def first(self) -> int:
        return self.spans[0][0]

    @property
    def end(self) -> int:
        return sum(self.spans[-1])


@dataclass(frozen=True, slots=True)
class Request:
    tokens: tuple[int, ...]
    max_tokens: int | None = None  # None: until the context is used up
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: frozenset[int] = frozenset()
    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None  # seconds from its submission on; None: it has all the time
    n: int = 1  # answers to one prompt, drawn apart: answer i with seed + i
    best_of: int | None = None  # of so many the `n` whose tokens were likeliest, told when all have ended; None: of n
    constraint: Constraint | None = None
    closing: Closing | None = None
    media: tuple[ShownTile, ...] = ()  # that the prompt shows, in its order
    adapter: str | None = None  # by its name; None: the model as it is
    scope: str = ""  # prompts of two scopes share nothing: the time an answer takes tells nobody what others asked


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (token id, logprob), best first


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    prefill_seconds: float
    decode_seconds: float
    reasoning_tokens: int = 0  # of the output, what was thought


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to one answer of a request. The one with `finish` is its last."""

    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    reason: str | None = None
    usage: Usage | None = None
    refusal: Refusal | None = None  # what kind of REFUSED it is
    retry_after: float | None = None  # seconds after which a BUSY one is likely to be served
    choice: int = 0  # which of the request's n answers


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, as they are right now."""

    weights: int
    cache: int  # what sequences remember, those that run and those that are kept for what may come
    active: int  # all that the arrays library holds: weights, cache, and what passes work with
    peak: int  # the most that it ever held
    free: int  # of the machine
    total: int  # of the machine
    prefix_cache: int = 0  # of `cache`: what ended requests left for what may come
    freed: int = 0  # buffers that nobody uses and the arrays library keeps for their next use
