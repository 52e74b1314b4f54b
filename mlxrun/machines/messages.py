"""What machines say to each other, as frozen data: JSON on the wire, of known fields, types and sizes, never pickle.

Whatever else arrives is a `Malformed` that names the field.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, get_type_hints

PROTOCOL = 1
MOST = 4 << 20  # bytes of a message
TEXT = 4096  # characters of a text in it
ITEMS = 1 << 16  # of a list
NUMBER = 1 << 53

Numbers = tuple[int, ...]
Rows = tuple[Numbers, ...]
Texts = tuple[str, ...]


class Malformed(ValueError):
    """Not a message of ours, in one sentence."""


@dataclass(frozen=True, slots=True)
class Start:
    """To each process, on its standard input: which machine of which group it is."""

    rank: int
    secret: str  # of this start of the group
    control: str  # address:port where the first machine listens
    ring: Texts  # of each machine, address:port of its rows
    names: Texts  # of each machine, as a person wrote it
    memory: Numbers  # of each, bytes that it may use; 0: what it has
    silence: float  # seconds after which a machine that says nothing is lost
    step: float  # seconds that a pass may take
    listeners: Numbers  # descriptors of the first machine's HTTP sockets
    beat: int  # descriptor on which the first machine says that it lives; -1: none


@dataclass(frozen=True, slots=True)
class Hello:
    """Of a follower: what it is."""

    rank: int
    protocol: int
    version: str  # of mlxrun
    mlx: str
    node: str  # the machine's own name: ranks of one machine share its memory
    usable: int  # bytes
    device: str  # how it computes
    model: str  # a digest of what its files say of themselves


@dataclass(frozen=True, slots=True)
class Plan:
    """To a follower: which layers it has."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class ShareLoaded:
    """Of a follower: its share is there."""

    context: int  # tokens that it has memory for
    dtype: str  # of the rows that it makes
    held: int  # bytes that one sequence of that context takes there at most
    room: int  # bytes that are left for sequences; 0: nobody planned


@dataclass(frozen=True, slots=True)
class Begin:
    """To a follower: the ring is being closed; rows will come."""

    context: int
    dtype: str


class SequenceOrder(IntEnum):
    """What happens to a sequence before a pass."""

    OPEN = 0  # number, context
    FORK = 1  # number, of which one
    REWIND = 2  # number, length
    CLOSE = 3  # number, 0


@dataclass(frozen=True, slots=True)
class Step:
    """To a follower: what becomes of sequences, in order, and whose rows the next pass has."""

    number: int
    orders: Rows  # (SequenceOrder, sequence, what it needs)
    parts: Rows  # (sequence, rows), in the order of the rows; none: there is no pass


@dataclass(frozen=True, slots=True)
class Done:
    number: int


@dataclass(frozen=True, slots=True)
class Ping:
    number: int


@dataclass(frozen=True, slots=True)
class Pong:
    number: int


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Nothing more can be expected of who says this."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """To a follower: the first machine ends, and all is well."""


Message = Start | Hello | Plan | ShareLoaded | Begin | Step | Done | Ping | Pong | GaveUp | End
EVERY: tuple[type[Message], ...] = (Start, Hello, Plan, ShareLoaded, Begin, Step, Done, Ping, Pong, GaveUp, End)
KINDS = {kind.__name__.lower(): kind for kind in EVERY}


def pack(message: Message) -> bytes:
    told = {"kind": type(message).__name__.lower(), **asdict(message)}
    return json.dumps(told, separators=(",", ":"), allow_nan=False).encode()


def unpack(body: bytes) -> Message:
    if len(body) > MOST:
        raise Malformed(f"a message has {len(body)} bytes, and {MOST} are the most")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("a message is no JSON") from None
    kind = KINDS.get(str(told.pop("kind", ""))) if isinstance(told, dict) else None
    if kind is None:
        raise Malformed("a message is of no known kind")
    wanted = FIELDS[kind.__name__]
    if told.keys() != wanted.keys():
        raise Malformed(f"a {kind.__name__} must have the fields {', '.join(wanted)}")
    return kind(**{name: _checked(kind, name, check, told[name]) for name, check in wanted.items()})


Check = Callable[[Any], Any]  # the value as the field holds it, or a ValueError


def _checked(kind: type[Message], name: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except ValueError:
        raise Malformed(f"the {name} of a {kind.__name__} is not what it must be") from None


def _number(value: Any) -> int:
    if type(value) is not int or not -NUMBER < value < NUMBER:
        raise ValueError
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < NUMBER:
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > TEXT:
        raise ValueError
    return value


def _list_of(check: Check) -> Check:
    def checked(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > ITEMS:
            raise ValueError
        return tuple(map(check, value))

    return checked


_numbers = _list_of(_number)
CHECKS: dict[Any, Check] = {
    int: _number,
    float: _seconds,
    str: _text,
    Numbers: _numbers,
    Texts: _list_of(_text),
    Rows: _list_of(_numbers),
}
FIELDS = {
    kind.__name__: {name: CHECKS[told] for name, told in get_type_hints(kind).items()} for kind in EVERY
}  # of each kind of message, what its fields must be
