"""What a dialect is to the server: it reads a request into a job and writes the answers down as bytes.

A dialect owns its words whole: fields, framing, order and end of a stream, errors, its part of /openapi.json. To
add one: a file in `dialects/` and a line in the table there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from ..assistant import Assistant
from ..core import Sampling
from ..engine.registry import Keep
from ..memory.claim import Claim
from ..parts import Piece
from .answering import Answering
from .errors import ApiError

if TYPE_CHECKING:
    from .generate import House

Body = Mapping[str, Any]
Json = dict[str, Any]


class Encoder(Protocol):
    """The answers to one request in a dialect's words. Made for that request, told everything in order.

    Answers are numbered from 0. A piece with `finish` ended well: one that did not comes as `failed`. A part that
    the dialect has no place for is an ApiError that names it (`parts.name_of`).
    """

    media_type: str  # of a stream; a whole answer is JSON

    def begin(self) -> bytes:
        """What goes out before anything else of a stream."""

    def piece(self, index: int, piece: Piece) -> bytes:
        """The next piece of that answer."""

    def idle(self) -> bytes:
        """Nothing came for a while, and the reader should not think that we have gone."""

    def end(self, lasts: Sequence[Piece]) -> bytes:
        """Every answer has ended. `lasts`: its last piece, which says how and what was counted."""

    def failed(self, error: ApiError) -> bytes:
        """The stream breaks off, after its status was sent."""

    def whole(self, pieces: Sequence[Piece]) -> Json:
        """Instead of a stream: the answers, each joined to one piece."""


@dataclass(frozen=True)
class Job:
    """What a request comes to."""

    start: Callable[[], Sequence[Answering]]  # renders, tokenizes, submits: not for the event loop's thread
    answers: int
    encoder: Encoder
    stream: bool
    left_out: tuple[str, ...] = ()  # fields and tools that were not heeded, told in a header and in the log
    headers: Mapping[str, str] = field(default_factory=dict)  # of the answer, beside those that all have


@dataclass(frozen=True)
class WantedModel:
    """Which model a request is for."""

    model: str | None = None  # by its name; None: the request names none
    keep: Keep = "usual"  # seconds that it stays loaded after this request; None: until its memory is wanted
    before: Callable[[], Awaitable[None]] | None = None  # what must be there before it is read


@dataclass(frozen=True)
class Voice:
    """Who answers, under which name, and how where a request does not say."""

    assistant: Assistant
    name: str
    sampling: Sampling
    waited: float = 0.0  # seconds that this request waited for it to be loaded
    client: str = ""  # who asks, where several are to be told apart

    def asked_by(self, client: str, waited: float) -> Voice:
        """For one request of that client: what others asked is not kept for him, nor his for them."""
        return replace(self, assistant=self.assistant.scoped(client), waited=waited, client=client)

    def adapted(self, name: str, key: str) -> Voice:
        return replace(self, assistant=self.assistant.adapted(name, key), name=name)

    @property
    def claim(self) -> Claim:
        return self.assistant.claim

    @property
    def fault(self) -> str | None:
        return self.assistant.engine.fault

    def close(self) -> None:
        self.assistant.close()


@dataclass(frozen=True)
class Operation:
    """What /openapi.json says of a dialect."""

    name: str
    summary: str
    request: Json  # the schema of its body, which `check` knows too
    returns: str  # a sentence about a good answer
    content: Mapping[str, Json]  # media type -> what OpenAPI says of it
    schemas: Mapping[str, Json]  # that `content` and `error` refer to, by name
    error: Json  # the schema of an error's body


class ErrorWords(Protocol):
    """How errors are told to whoever asks at a path, and at all that begins with it and a slash."""

    def error(self, error: ApiError) -> Json | Response:
        """The body of an error's response; or all of it, where its status or headers are this dialect's own too."""


@dataclass(frozen=True)
class Plain:
    """What is answered at once and whole: no model writes it."""

    path: str  # as Starlette has them: "/v1/responses/{id}"
    methods: tuple[str, ...]
    answer: Callable[[Request, House], Awaitable[Response]]  # on the event loop: what takes long goes to house.pool
    words: ErrorWords
    described: Json  # its part of /openapi.json, by method in small letters


class Dialect(Protocol):
    @property
    def path(self) -> str: ...

    @property
    def operation(self) -> Operation: ...

    def check(self, body: Body) -> WantedModel:
        """Before a model is loaded for it: raises an ApiError for what no model could serve."""

    def read(self, body: Body, voice: Voice) -> Job:
        """Of a body that was checked. Raises an ApiError, a RequestError or a ModelError for what cannot be served."""

    def error(self, error: ApiError) -> Json | Response:
        """The body of an error's response; or all of it, where its status or headers are this dialect's own too."""
