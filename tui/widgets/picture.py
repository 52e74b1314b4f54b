"""A picture that goes with a message: its chip, and a small one of half blocks, two pixels a cell."""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import groupby

from textual.content import Content

from ..attach import Attached
from ..text import counted

COLUMNS, LINES = 32, 16  # pixels at most: each cell has two, one above the other
Colour = tuple[int, int, int]


def chip_told(file: Attached) -> str:
    if not file.picture:
        return counted(file.tokens, "token")
    (width, height), _ = looked_at(file)
    return f"picture, {width} × {height}"


def shows_colours() -> bool:
    """Without them half blocks are a grey field."""
    return not os.environ.get("NO_COLOR")


def thumbnail_of(file: Attached) -> Content:
    _, rows = looked_at(file)
    lines = [half_blocks(rows[at], rows[at + 1] if at + 1 < len(rows) else None) for at in range(0, len(rows), 2)]
    return Content("\n").join(lines)


def half_blocks(upper: list[Colour], lower: list[Colour] | None) -> Content:
    cells = [(written(one), None if lower is None else written(lower[at])) for at, one in enumerate(upper)]
    runs = [(pair, len(list(run))) for pair, run in groupby(cells)]
    return Content.assemble(*(("▀" * count, f"{top} on {low}" if low else top) for (top, low), count in runs))


def written(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


@lru_cache(maxsize=32)
def looked_at(file: Attached) -> tuple[tuple[int, int], list[list[Colour]]]:
    """Its size and its colours; what was once read and cannot be any more is a grey field."""
    from mlxrun.client.pictures import thumbnail
    from mlxrun.core import RequestError

    try:
        return thumbnail(file.data, file.name, COLUMNS, LINES)
    except (RequestError, ValueError):
        return (0, 0), [[(128, 128, 128)] * 2] * 2
