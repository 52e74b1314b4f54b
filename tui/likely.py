"""How likely the tokens of an answer were, laid out in lines: what the lens paints. Knows no widgets.

Levels are told by underlines as well as by colours. Tokens that end within a character join the next one.
"""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from .text import visible

if TYPE_CHECKING:
    from mlxrun.parts import Token

# from the likeliest down: (the least probability, a style of the theme)
LEVELS = (
    (0.8, "$foreground"),
    (0.5, "$foreground on $panel"),
    (0.2, "$warning underline"),
    (0.0, "$error bold underline"),
)
BARS = "▁▂▃▄▅▆▇█"
MOST_SURPRISE = 5.0  # nats that fill a bar


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a token in a line: a token that is broken has several."""

    token: int
    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    lines: tuple[tuple[Cell, ...], ...]
    first_line: tuple[int, ...]  # of each token


def chance(token: Token) -> float:
    return math.exp(min(0.0, token.logprob)) if not math.isnan(token.logprob) else 1.0


def style_of(token: Token) -> str:
    likely = chance(token)
    return next(style for least, style in LEVELS if likely >= least)


def spelled(tokens: Sequence[Token]) -> list[str]:
    """The text of each, safe to show; of a token that ends within a character ""."""
    decode = getincrementaldecoder("utf-8")("replace").decode
    return [visible(decode(token.bytes, at == len(tokens) - 1)) for at, token in enumerate(tokens)]


def placed(tokens: Sequence[Token], width: int) -> Placed:
    """Broken where the width ends and where the text has a line's end."""
    lines: list[tuple[Cell, ...]] = []
    line: list[Cell] = []
    room, first = width, []
    for at, text in enumerate(spelled(tokens)):
        shown = text.replace("\t", "    ")
        size = cell_len(shown.rstrip("\n"))
        if line and "\n" not in shown and size > room and size <= width:
            lines.append(tuple(line))
            line, room = [], width
        first.append(len(lines))
        for index, part in enumerate(shown.split("\n")):
            if index:
                line.append(Cell(at, "↵"))
                lines.append(tuple(line))
                line, room = [], width
            for piece in chopped(part, room, width):
                if piece is None:
                    lines.append(tuple(line))
                    line, room = [], width
                else:
                    line.append(Cell(at, piece))
                    room -= cell_len(piece)
    return Placed((*lines, tuple(line)), tuple(first))


def chopped(text: str, room: int, width: int) -> list[str | None]:
    """Pieces that fit; None between them is a new line."""
    pieces: list[str | None] = []
    piece, left = "", room
    for character in text:
        size = cell_len(character)
        if size > left and (piece or left < width):
            pieces += [piece, None] if piece else [None]
            piece, left = "", width
        piece, left = piece + character, left - size
    return [*pieces, piece] if piece else pieces


def surprise_line(tokens: Sequence[Token], width: int) -> str:
    """How surprising the answer was from its beginning to its end, in as many signs."""
    if not tokens or width < 1:
        return ""
    size = min(width, len(tokens))
    found = []
    for at in range(size):
        part = tokens[at * len(tokens) // size : (at + 1) * len(tokens) // size]
        mean = sum(-math.log(max(chance(token), 1e-9)) for token in part) / len(part)
        found.append(BARS[min(len(BARS) - 1, int(mean / MOST_SURPRISE * len(BARS)))])
    return "".join(found)


def perplexity(tokens: Sequence[Token]) -> float:
    known = [token.logprob for token in tokens if not math.isnan(token.logprob)]
    return math.exp(-sum(known) / len(known)) if known else 1.0


def beginning(tokens: Sequence[Token], content: str, at: int, instead: Token) -> str | None:
    """What of the answer stands before that token, and another one in its place; None: it is in no text that was said,
    or the other one is half a character."""
    whole = b"".join(token.bytes for token in tokens)
    start = whole.find(content.encode("utf-8", "replace"))
    before = b"".join(token.bytes for token in tokens[:at])
    if start < 0 or len(before) < start:
        return None
    try:
        return (before[start:] + instead.bytes).decode()
    except UnicodeDecodeError:
        return None
