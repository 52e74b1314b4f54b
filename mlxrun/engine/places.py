"""Where in a prompt that shows pictures each row turns, which is not its place among the keys (M-RoPE).

The rows of a picture turn by where it begins and by their line and column in it; what follows goes on behind the longer
of its edges. All of that follows from the pictures of a request and the place of a row, and is kept nowhere: so it
holds whatever was rewound, taken from the prefix cache or joined. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..contracts import Turns
from ..core import ShownTile
from .plan import PassPart

Coordinates = tuple[list[int], list[int], list[int]]


def turns_of(parts: Sequence[PassPart]) -> Turns | None:
    """None: every row of the pass turns by its place."""
    if not any(part.row.apart for part in parts):
        return None
    every: Coordinates = ([], [], [])
    shifts, apart = list[int](), False
    for part in parts:
        first = part.row.memory.length
        coordinates, shift, among = coordinates_of(part.row.media, range(first, first + part.count))
        for known, more in zip(every, coordinates, strict=True):
            known += more
        shifts.append(shift)
        apart = apart or among
    return Turns(every, shifts, apart)


def coordinates_of(media: Sequence[ShownTile], places: range) -> tuple[Coordinates, int, bool]:
    """Of the rows at those places; how far the first is shifted; and whether rows of a picture are among them."""
    found: Coordinates = ([], [], [])
    shift, at, among = 0, places.start, False
    first_shift: int | None = None
    for one in media:
        if one.tile.shape is None:
            continue
        down, across = one.tile.shape
        if one.first >= places.stop:
            break
        if one.end > places.start:
            first_shift = shift if first_shift is None else first_shift
            add_text(found, range(at, max(at, one.first)), shift)
            begin, low, high = one.first + shift, max(one.first, places.start), min(one.end, places.stop)
            inside = range(low - one.first, high - one.first)
            found[0].extend([begin] * len(inside))
            found[1].extend([begin + row // across for row in inside])
            found[2].extend([begin + row % across for row in inside])
            at, among = high, True
        shift += max(down, across) - one.tile.rows
    add_text(found, range(at, places.stop), shift)
    return found, shift if first_shift is None else first_shift, among


def add_text(found: Coordinates, places: range, shift: int) -> None:
    for axis in found:
        axis.extend(range(places.start + shift, places.stop + shift))
