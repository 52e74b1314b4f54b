"""What a picture needs while a tower reads it, beside weights and caches: an estimate, as `activations` has it.

Of the largest picture that goes through a tower at once. Where the native kernels compute, no scores are held.
"""

from __future__ import annotations

from ..spec import Attention, Layer
from ..spec_towers import Closest, Longest, MostRows, Multiple, Square, Tiles, Tower, Towers
from .activations import ALIVE_ON_CPU, ALIVE_ON_METAL, FUSED_HEADS, row_values, score_bytes

AT_ONCE = 4096  # patches that go through a tower together, where one picture has no more


def largest(towers: Towers) -> int:
    """Patches of a picture, or of a tile of it."""
    patch, block = towers.vision.patch.side, towers.vision.block
    match towers.picture.fit:
        case Square(height, width):
            pixels = height * width
        case Tiles(side) | Closest(side):
            pixels = side**2
        case Longest(edge, factor):
            pixels = (-(-edge // factor) * factor) ** 2
        case Multiple(_, _, most, frames):
            pixels = most // frames
        case MostRows(side, rows):
            return rows * (side // patch) ** 2
    return -(-pixels // (patch * block) ** 2) * block**2


def picture_bytes(towers: Towers, width: int, *, gpu: bool, native: bool) -> int:
    """`width` bytes a value."""
    tower, one = towers.vision, largest(towers)
    rows = max(one, AT_ONCE)
    widest = max((row_values(layer, tower.patch.dim) for layer in tower.layers), default=0)
    scores = 0 if native else max((held_scores(layer, one, width, gpu) for layer in tower.layers), default=0)
    made = (2 * tower.patch.dim + colours_of(tower)) * rows * width
    return round(max(made, rows * widest * width) * (ALIVE_ON_METAL if gpu else ALIVE_ON_CPU)) + scores


def held_scores(layer: Layer, rows: int, width: int, gpu: bool) -> int:
    """Of narrow heads none on Metal: they are widened to what is fused there."""
    narrow = isinstance(layer.mixer, Attention) and layer.mixer.head_dim <= FUSED_HEADS[-1]
    return 0 if gpu and narrow else score_bytes(layer, rows, rows, width, gpu)


def colours_of(tower: Tower) -> int:
    return 3 * tower.patch.side**2 * tower.patch.frames
