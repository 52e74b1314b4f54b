"""Weight surgery as data: how a file's tensor names and layouts become the canonical ones.

A recipe gives an ordered list of rules. Every tensor flows down the list; each rule that matches
(`re.search`) changes its name or cuts it, and what comes out flows on through the rules below. A
tensor that no rule matches is an error; so is a canonical weight that nobody made. `weights/apply.py`
carries the rules out, on plain and on quantized tensors alike: all but Transpose, Squeeze, Flatten,
FlattenFilters and Map move rows only, which is lossless on packed weights.

The canonical names are listed in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rename:
    src: str
    dst: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Left out on purpose."""

    src: str
    why: str = ""  # told to the user when it is a part they may miss ("the vision tower")


@dataclass(frozen=True, slots=True)
class Split:
    """Cut rows into parts; a name that stands twice in `dst` gets its parts joined in order.

    With `groups`, rows are seen as (groups, sum(sizes)) and cut inside every group: fused q,k,v
    that is stored head by head. `axis` -2 is the rows of a stack of experts.
    """

    src: str
    dst: tuple[str, ...]
    sizes: tuple[int, ...] | None = None  # None: equal parts
    groups: int = 1
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Unzip:
    """Rows 0, 2, 4... to the first name, rows 1, 3, 5... to the second."""

    src: str
    dst: tuple[str, str]
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Stack:
    """Tensors that differ only in the group (?P<e>\\d+) become one with a new first axis."""

    src: str
    dst: str


@dataclass(frozen=True, slots=True)
class Join:
    """Tensors that differ only in the group (?P<part>...) become one: their rows after each other, in that order."""

    src: str
    dst: str
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Transpose:
    """Swap the last two axes (Conv1D of GPT-2, experts stored input first)."""

    src: str
    dst: str
    unless: tuple[int, int] | None = None  # they are that long: some files hold what others hold transposed


@dataclass(frozen=True, slots=True)
class Squeeze:
    """Remove the axes of length one, keeping the first (depthwise convolutions: (C, 1, K), (C, K, 1))."""

    src: str
    dst: str


@dataclass(frozen=True, slots=True)
class Flatten:
    """All values in one row: a vector that is stored as (1, n), or by groups, or a number without a row."""

    src: str
    dst: str


@dataclass(frozen=True, slots=True)
class FlattenFilters:
    """The filters of a convolution, as a matrix: its columns go by row, column, colour."""

    src: str
    dst: str
    last: bool = False  # colours lie last already (the mlx dialect)
    side: int = 0  # of filters that are stored as a matrix whose columns go by colour first


@dataclass(frozen=True, slots=True)
class Unflatten:
    """See the rows (groups * n, ...) as (groups, n, ...): a projection that is used head by head."""

    src: str
    dst: str
    groups: int


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Cut into parts of those sizes along the axis and join them in another order: heads that lie otherwise.

    Along the last axis of a quantized weight a part must be whole groups.
    """

    src: str
    dst: str
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Map:
    """The escape hatch. Keep it rare: the tests count them. `fn` must use array methods only."""

    src: str
    dst: tuple[str, ...]
    fn: Callable[[Any], Sequence[Any]]


Rule = (
    Rename
    | Drop
    | Split
    | Unzip
    | Stack
    | Join
    | Transpose
    | Squeeze
    | Flatten
    | FlattenFilters
    | Unflatten
    | Shuffle
    | Map
)
