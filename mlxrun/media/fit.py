"""How large a picture becomes, and into which tiles it is cut: as transformers' PIL classes do it, to the bit.

https://github.com/huggingface/transformers: image_processing_pil_*.py of each family.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..spec_towers import Closest, Fit, Longest, MostRows, Multiple, Square, Tiles

if TYPE_CHECKING:
    from PIL import Image

MOST_EDGE = 4096  # Idefics 3 brings no edge beyond that


@dataclass(frozen=True, slots=True)
class Cutting:
    """The tiles of a picture by line, and what comes last of several: the whole of it."""

    tiles: tuple[Image.Image, ...]
    rows: int
    cols: int
    overview: bool


def cut(picture: Image.Image, fit: Fit, filter: int) -> Cutting:
    match fit:
        case Tiles():
            return tiles(picture, fit, filter)
        case Square(height, width):
            return Cutting((sized(picture, width, height, filter),), 1, 1, False)
        case Closest():
            return closest(picture, fit, filter)
        case Longest():
            return Cutting((sized(picture, *multiples(*picture.size, fit), filter),), 1, 1, False)
        case MostRows():
            return Cutting((sized(picture, *within(*picture.size, fit), filter),), 1, 1, False)
        case Multiple():
            return Cutting((sized(picture, *nearest(*picture.size, fit), filter),), 1, 1, False)


def multiples(width: int, height: int, fit: Longest) -> tuple[int, int]:
    ratio = max(height / fit.edge, width / fit.edge)
    if ratio > 1:
        width, height = math.floor(width / ratio), math.floor(height / ratio)
    width, height = (-(-max(1, edge) // fit.factor) * fit.factor for edge in (width, height))
    return width, height


def nearest(width: int, height: int, fit: Multiple) -> tuple[int, int]:
    """Each edge to the nearest multiple, halves to even ones; or all of it as large or small as it may be."""
    factor, frames = fit.factor, fit.frames
    if frames > 1 and min(width, height) < factor:
        scale = max(factor / height, factor / width)
        width, height = int(width * scale), int(height * scale)
    near = round(width / factor) * factor, round(height / factor) * factor
    if frames * near[0] * near[1] > fit.most:
        ratio = math.sqrt(frames * width * height / fit.most)
        width, height = (max(factor, math.floor(edge / ratio / factor) * factor) for edge in (width, height))
    elif frames * near[0] * near[1] < fit.least:
        ratio = math.sqrt(fit.least / (frames * width * height))
        width, height = (math.ceil(edge * ratio / factor) * factor for edge in (width, height))
    else:
        width, height = near
    return width, height


def within(width: int, height: int, fit: MostRows) -> tuple[int, int]:
    ratio = math.sqrt(fit.rows * fit.side**2 / (width * height))
    down, across = (math.floor(ratio * edge / fit.side) for edge in (height, width))
    if not down:
        down, across = 1, min(width // height, fit.rows)
    elif not across:
        down, across = min(height // width, fit.rows), 1
    return across * fit.side, down * fit.side


def tiles(picture: Image.Image, fit: Tiles, filter: int) -> Cutting:
    width, height = longest_edge(*picture.size, fit.longest)
    picture, side = sized(picture, width, height, filter), fit.side
    if not fit.split:
        return Cutting((sized(picture, side, side, filter),), 1, 1, False)
    picture = sized(picture, *whole_tiles(width, height, side), filter)
    cols, rows = picture.width // side, picture.height // side
    if rows == cols == 1:
        return Cutting((picture,), 1, 1, False)
    parts = squares(picture, side)
    return Cutting((*parts, sized(picture, side, side, filter)), rows, cols, True)


def closest(picture: Image.Image, fit: Closest, filter: int) -> Cutting:
    cols, rows = closest_shape(picture.width, picture.height, fit)
    side = fit.side
    parts = squares(sized(picture, cols * side, rows * side, filter), side)
    if len(parts) == 1:
        return Cutting(parts, 1, 1, False)
    return Cutting((*parts, sized(picture, side, side, filter)), rows, cols, True)


def closest_shape(width: int, height: int, fit: Closest) -> tuple[int, int]:
    """Of those that are as close, the one of more squares, unless these would hold more than twice the picture."""
    numbers = range(1, fit.most + 1)
    shapes = [(cols, rows) for cols in numbers for rows in numbers if fit.least <= cols * rows <= fit.most]
    best, apart = (1, 1), math.inf
    for cols, rows in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
        found = abs(width / height - cols / rows)
        if found < apart or (found == apart and width * height > 0.5 * fit.side**2 * cols * rows):
            best, apart = (cols, rows), found
    return best


def squares(picture: Image.Image, side: int) -> tuple[Image.Image, ...]:
    cols, rows = picture.width // side, picture.height // side
    boxes = ((x * side, y * side, (x + 1) * side, (y + 1) * side) for y in range(rows) for x in range(cols))
    return tuple(picture.crop(box) for box in boxes)


def longest_edge(width: int, height: int, longest: int) -> tuple[int, int]:
    """The longest edge that long, the other even."""
    ratio = width / height
    if width >= height:
        width, height = longest, int(longest / ratio)
        height += height % 2
    else:
        width, height = int(longest * ratio), longest
        width += width % 2
    width, height = max(width, 1), max(height, 1)
    ratio = width / height
    if width >= height and width > MOST_EDGE:
        width, height = MOST_EDGE, int(MOST_EDGE / ratio)
    elif height > width and height > MOST_EDGE:
        width, height = int(MOST_EDGE * ratio), MOST_EDGE
    return max(width, 1), max(height, 1)


def whole_tiles(width: int, height: int, side: int) -> tuple[int, int]:
    ratio = width / height
    if width >= height:
        width = math.ceil(width / side) * side
        height = math.ceil(int(width / ratio) / side) * side
    else:
        height = math.ceil(height / side) * side
        width = math.ceil(int(height * ratio) / side) * side
    return width, height


def sized(picture: Image.Image, width: int, height: int, filter: int) -> Image.Image:
    if picture.size == (width, height):
        return picture  # every filter leaves it as it is
    return picture.resize((width, height), resample=filter)
