"""What sees beside a decoder: frozen data, as `spec` is for the decoder itself.

A tower is layers of a decoder that see both ways, a rule that cuts a picture into patches before them, and steps that
make of its rows those that stand among a prompt's. Its rows lie block by block, as the steps will join them: so a
merger is a reshape. `PictureSpec` says what becomes of a picture before that. Does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .spec import Activation, Dense, Layer, Norm


@dataclass(frozen=True, slots=True)
class Patch:
    """Squares of side x side pixels -> rows. The columns of its weight go by frame, row, column, colour."""

    side: int
    dim: int
    bias: bool = True
    after: Norm | None = None
    frames: int = 1  # of a film that make one row; a picture is as many that are alike
    before: Norm | None = None  # of the colours


@dataclass(frozen=True, slots=True)
class Grid:
    """A learned row for each place, added to the patches.

    Of a picture that has another size than the grid:
    buckets: the place at the same part of the way
    bilinear: the four around that, by their distance; the corners of both lie on each other
    bicubic: the sixteen around that, by a cubic of their distance; the edges of both lie on each other
    sum: there is none: one row for each column and, behind those, one for each line
    """

    rows: int
    cols: int
    how: Literal["buckets", "bilinear", "bicubic", "sum"] = "buckets"
    before: int = 0  # rows of the table before those of places: of the class row


@dataclass(frozen=True, slots=True)
class Project:
    """A matrix, to rows of that width."""

    out: int
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    kind: Activation


@dataclass(frozen=True, slots=True)
class JoinPatches:
    """The rows of a block of side x side patches become one, end to end."""

    side: int


@dataclass(frozen=True, slots=True)
class MeanBlock:
    """The rows of a block become their mean, times `scale` in float32 where it is none of 1."""

    side: int
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Standardize:
    """A learned row is taken from each, and another multiplies it."""


Step = Norm | Project | Act | JoinPatches | MeanBlock | Standardize | Dense


@dataclass(frozen=True, slots=True)
class Tower:
    family: str  # for messages and display only
    patch: Patch
    grid: Grid | None
    layers: tuple[Layer, ...]
    block: int  # side of the blocks of patches by which rows lie
    steps: tuple[Step, ...]
    class_row: bool = False  # a learned row before the patches of each picture, which no step sees
    window: int = 0  # side, in blocks, of the squares within which patches see each other; 0: all of a picture do
    full: tuple[int, ...] = ()  # layers in which they see all of it nevertheless
    deep: tuple[tuple[int, tuple[Step, ...]], ...] = ()  # layers whose output other steps make further rows of


@dataclass(frozen=True, slots=True)
class Tiles:
    """The longest edge is brought to `longest`; then squares of `side` are cut from it, and all of it shrunk to one
    more comes last. A picture that is one square stays that (Idefics 3)."""

    side: int
    longest: int
    split: bool = True  # False: the whole picture as one square


@dataclass(frozen=True, slots=True)
class Longest:
    """No edge is longer than `edge`, and each a multiple of `factor` (Pixtral)."""

    edge: int
    factor: int


@dataclass(frozen=True, slots=True)
class Square:
    """Every picture has that size, whatever its shape was."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Closest:
    """As many squares of `side` as `most`, in lines and columns whose shape comes closest; the whole picture shrunk to
    one more comes last of several (InternVL)."""

    side: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Multiple:
    """Each edge is a multiple of `factor`, and all of it no fewer and no more pixels than that (Qwen)."""

    factor: int
    least: int
    most: int
    frames: int = 1  # as often pixels count; where that is more than once, a smaller edge first becomes `factor` (GLM)


@dataclass(frozen=True, slots=True)
class MostRows:
    """As large as `rows` squares of `side` allow, each edge a multiple of it (Gemma 4)."""

    side: int
    rows: int


Fit = Tiles | Longest | Square | Closest | Multiple | MostRows


@dataclass(frozen=True, slots=True)
class PictureWords:
    """What stands in a prompt for a picture, in the words of the model's own tokenizer."""

    placeholder: str  # that the chat template writes
    soft: str  # in whose place a row of the tower comes
    before: str = ""
    alone: str = ""  # before the only tile
    tile: str = ""  # before each of several, with {row} and {col} from 1 on
    line: str = ""  # after a line of these
    row: str = ""  # after each line of rows but the last
    overview: str = ""  # before what comes last of several
    after: str = ""


@dataclass(frozen=True, slots=True)
class PictureSpec:
    fit: Fit
    filter: int  # as Pillow numbers them
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float  # of a colour, before its mean goes
    written: PictureWords
    soft: int  # the token that stands where rows come
    whole: bool = False  # its rows see each other in the decoder
    apart: bool = False  # its rows turn there by their line and column, and what follows by the longer of its edges


@dataclass(frozen=True, slots=True)
class Towers:
    vision: Tower
    picture: PictureSpec
