"""The nouns everybody shares: what is asked, what comes back. No MLX, no text, no HTTP.

These are messages between parts and threads, so all of them are frozen. Token ids go in, token ids
come out; whoever holds text keeps it on its own side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Refusal(StrEnum):
    REQUEST = "request"  # it can never be served as it is
    CONTEXT = "context"  # its prompt is too long; a shorter one would be served
    BUSY = "busy"  # nothing is wrong with it; later it would be served


class RequestError(ValueError):
    """A request that cannot be served, told in one sentence that names the field or limit."""

    refusal = Refusal.REQUEST


class ContextError(RequestError):
    """The prompt leaves no room in the context."""

    refusal = Refusal.CONTEXT


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


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose the next token. Temperature first, then top-k, top-p and min-p."""

    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0
    seed: int | None = None
    logprobs: int | None = None  # how many alternatives to report; None: do not compute any

    def __post_init__(self) -> None:
        checks = (
            (0.0 <= self.temperature <= 100.0, "temperature", "a number from 0 to 100"),
            (0.0 < self.top_p <= 1.0, "top_p", "a number above 0, at most 1"),
            (self.top_k >= 0, "top_k", "a whole number, 0 for no limit"),
            (0.0 <= self.min_p <= 1.0, "min_p", "a number from 0 to 1"),
            (self.seed is None or 0 <= self.seed < 2**64, "seed", "a whole number from 0 to 2^64 - 1"),
            (self.logprobs is None or 0 <= self.logprobs <= 20, "logprobs", "a whole number from 0 to 20"),
        )
        for good, name, wanted in checks:
            if not good:
                raise RequestError(f"{name} must be {wanted}, not {getattr(self, name)!r}.")


@dataclass(frozen=True, slots=True)
class Request:
    tokens: tuple[int, ...]
    max_tokens: int | None = None  # None: until the context is used up
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: frozenset[int] = frozenset()


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


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a request. The one with `finish` is the last."""

    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    reason: str | None = None
    usage: Usage | None = None
    refusal: Refusal | None = None  # what kind of REFUSED it is


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, as they are right now."""

    weights: int
    cache: int  # what sequences remember, those that run and those that are kept for what may come
    active: int  # all that the arrays library holds, weights and cache included
    peak: int  # the most that it ever held
    free: int  # of the machine
    total: int  # of the machine
    prefix_cache: int = 0  # of `cache`: what ended requests left for what may come
    freed: int = 0  # buffers that nobody uses and the arrays library keeps for their next use
