"""What an answer is made of, in order: what every reader of one is handed, in this process or over HTTP.

An answer is a stream of `Piece`s and a piece holds parts in the order in which the model wrote them: thoughts
may come again after text or a call. Who shows or encodes parts handles every kind or refuses it by its name
(`name_of`); nothing is passed over in silence. Knows no tokenizer, no dialect and no screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .core import Finish, Refusal, Usage


@dataclass(frozen=True, slots=True)
class Said:
    """Text for who asked."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Text that the model wrote for itself."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model calls a tool. `index` counts the calls of one answer from 0, without gaps."""

    index: int
    id: str  # by which a result names its call
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """More of that call's arguments: all of them together are one JSON object, unless the answer is cut."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """Its arguments are whole. A call that the answer's end cut off has no such part."""

    index: int


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """What the tool said, where this server called it itself; the answer goes on with it."""

    index: int
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """One whole picture or sound that the model made: a file of that MIME type."""

    type: str
    data: bytes


AnswerPart = Said | Thought | CallBegun | Arguments | CallEnded | CallAnswered | Media


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the answer as its bytes say it; part of a character may be all there is."""

    bytes: bytes
    logprob: float
    top: tuple[Token, ...] = ()  # the likeliest ones at its place, best first
    id: int | None = None  # None where a server does not tell

    @property
    def text(self) -> str:
        return self.bytes.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Piece:
    """What came since the last piece. The one with `finish` is the last; `reason` says why it was no good end."""

    parts: tuple[AnswerPart, ...] = ()
    tokens: tuple[Token, ...] = ()  # where log-probabilities were asked for
    finish: Finish | None = None
    stop: str | None = None  # the stop string that ended it
    reason: str | None = None
    usage: Usage | None = None
    refusal: Refusal | None = None
    retry_after: float | None = None  # seconds after which it would be served, where that is known

    @property
    def content(self) -> str:
        """What is said in it, for who wants nothing else."""
        return "".join([part.text for part in self.parts if isinstance(part, Said)])

    @property
    def reasoning(self) -> str:
        return "".join([part.text for part in self.parts if isinstance(part, Thought)])


def joined(pieces: Sequence[Piece]) -> Piece:
    """Several pieces of one answer as one; how it ended is what the last of them says."""
    if len(pieces) == 1:
        return pieces[0]
    parts = merged(part for piece in pieces for part in piece.parts)
    return replace(pieces[-1], parts=parts, tokens=tuple(token for piece in pieces for token in piece.tokens))


def merged(parts: Iterable[AnswerPart]) -> tuple[AnswerPart, ...]:
    """The same parts, neighbours that go on with the same text or arguments made one."""
    runs: list[list[AnswerPart]] = []
    for part in parts:
        if runs and _goes_on(runs[-1][0], part):
            runs[-1].append(part)
        else:
            runs.append([part])
    return tuple(_one(run) for run in runs)


def _goes_on(first: AnswerPart, part: AnswerPart) -> bool:
    match first, part:
        case (Said(), Said()) | (Thought(), Thought()):
            return True
        case Arguments(index=index), Arguments(index=same):
            return index == same
    return False


def _one(run: list[AnswerPart]) -> AnswerPart:
    first = run[0]
    if len(run) == 1 or not isinstance(first, Said | Thought | Arguments):
        return first
    return replace(first, text="".join([part.text for part in run if isinstance(part, Said | Thought | Arguments)]))


def name_of(part: AnswerPart) -> str:
    """For a sentence about a part that somebody has no place for."""
    match part:
        case Said():
            return "text"
        case Thought():
            return "a thought"
        case CallBegun(name=name):
            return f"a call of the tool {name!r}"
        case Arguments():
            return "arguments of a call"
        case CallEnded():
            return "the end of a call"
        case CallAnswered():
            return "the result of a call"
        case Media(type=kind):
            return f"a file of the type {kind}"


def as_text(part: AnswerPart) -> str:
    """For who has nothing but a text to put it in: what is no text is told in brackets."""
    match part:
        case Said(text) | Thought(text) | Arguments(text=text):
            return text
        case CallBegun():
            return f"[{name_of(part)}: "
        case CallEnded():
            return "]"
        case CallAnswered(text=text):
            return f"[{name_of(part)}: {text}]"
        case Media():
            return f"[{name_of(part)}]"
