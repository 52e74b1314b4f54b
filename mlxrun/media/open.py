"""The bytes of a picture file -> its colours, upright. In bounded memory and time, whatever the bytes are.

What a header says is checked before a pixel is read. Of what moves the first frame is taken.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from ..core import RequestError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_BYTES = 20 << 20  # of a file
MOST_PIXELS = 40_000_000
MOST_SIDE = 1 << 15
LONGEST = 200  # how many times longer than wide
MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"}
DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}  # more than 8 bits
# what Pillow's readers raise for bytes that are no such file
BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, ArithmeticError, RuntimeError)


def open_picture(data: bytes, name: str = "The picture") -> Image.Image:
    """RGB. A RequestError says in one sentence why it cannot be read; `name` stands at its beginning."""
    from PIL import Image  # Pillow is imported where somebody looks at a picture

    if not data:
        raise RequestError(f"{name} is an empty file.")
    if len(data) > MOST_BYTES:
        raise RequestError(f"{name} has {len(data)} bytes; at most {MOST_BYTES} are read.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = Image.open(io.BytesIO(data), formats=FORMATS)
        except (*BROKEN, Image.DecompressionBombError) as error:
            raise RequestError(f"{name} is none that can be read: {', '.join(FORMATS)} can.") from error
        with found:
            check_size(*found.size, name)
            try:
                return upright(found)
            except (*BROKEN, MemoryError, Image.DecompressionBombError) as error:
                raise RequestError(f"{name} is a broken {found.format} file.") from error


def check_size(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise RequestError(f"{name} has no pixels.")
    if width > MOST_SIDE or height > MOST_SIDE or width * height > MOST_PIXELS:
        millions = MOST_PIXELS // 1_000_000
        raise RequestError(f"{name} is {width} x {height} pixels; at most {millions} million and {MOST_SIDE} a side.")
    if max(width, height) > LONGEST * min(width, height):
        raise RequestError(f"{name} is {width} x {height} pixels, more than {LONGEST} times longer than wide.")


def upright(found: Image.Image) -> Image.Image:
    """Read, turned as its camera was held, in red, green and blue; what shines through is dropped."""
    from PIL import ImageOps

    found.load()
    if found.mode in DEEP:
        found = eight_bits(found)
    elif found.mode not in MODES:
        raise ValueError(found.mode)
    turned = ImageOps.exif_transpose(found)
    return (turned or found).convert("RGB")


def eight_bits(found: Image.Image) -> Image.Image:
    """Grey of 16 bits and more, by its upper 8: Pillow alone would cut what is above 255."""
    return found.convert("I").point(lambda value: value * (1 / 256)).convert("L")
