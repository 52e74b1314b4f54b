"""Pictures as a program has them: a path, the bytes of a file, an image of Pillow's, an array of NumPy's."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from ..core import RequestError
from ..media.encode import png_of
from ..media.open import open_picture
from ..turns import Content, Picture

WANTED = "a path, bytes of a file, an image of Pillow's or an array of NumPy's"


def picture_of(given: Any) -> Picture:
    if isinstance(given, Picture):
        return given
    if isinstance(given, bytes | bytearray):
        return Picture("image/*", bytes(given))
    if isinstance(given, str | PathLike):
        return from_file(Path(given))
    if hasattr(given, "save") and hasattr(given, "convert"):  # Pillow's, which need not be imported to be known
        file = io.BytesIO()
        given.save(file, "PNG")
        return Picture("image/png", file.getvalue())
    if hasattr(given, "__array_interface__"):
        return from_array(given)
    raise RequestError(f"A picture must be {WANTED}, not {type(given).__name__}.")


def from_file(path: Path) -> Picture:
    try:
        return Picture("image/*", path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(f"The picture {path} cannot be read: {reason}.") from error


def from_array(given: Any) -> Picture:
    """(height, width) of greys, or (height, width, 3 or 4) of colours, each from 0 to 255."""
    shape = tuple(given.shape)
    if str(given.dtype) != "uint8" or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise RequestError(f"An array that is a picture must be uint8 (height, width, 3), not {given.dtype} {shape}.")
    return Picture("image/png", png_of(given))


Colour = tuple[int, int, int]


def thumbnail(data: bytes, name: str, columns: int, lines: int) -> tuple[tuple[int, int], list[list[Colour]]]:
    """Its width and height, and its colours in at most so many columns and lines, row by row. A RequestError: it is no
    picture that can be read."""
    found = open_picture(data, name)
    size = found.size
    scale = min(columns / size[0], lines / size[1], 1.0)
    width, height = (max(1, round(side * scale)) for side in size)
    pixels = found.resize((width, height)).tobytes()
    colours = [(pixels[at], pixels[at + 1], pixels[at + 2]) for at in range(0, len(pixels), 3)]
    return size, [colours[row * width : (row + 1) * width] for row in range(height)]


def contents_of(content: Any, images: Any = None) -> list[Content] | None:
    """A message's parts, its `images` first; None: they are none that can be told."""
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple) or not isinstance(images, list | tuple | None):
        return None
    found: list[Content] = [picture_of(one) for one in images or ()]
    for part in parts:
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, Mapping):
            told = of_part(part)
            if told is None:
                return None
            found.append(told)
        else:
            found.append(picture_of(part))
    return found or None


def of_part(part: Mapping[str, Any]) -> Content | None:
    """As OpenAI's dialect writes one."""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, Mapping) else url
    if not isinstance(url, str):
        return None
    head, found, data = url.partition(";base64,")
    if not found or not head.startswith("data:"):
        raise RequestError("The image_url of a message must be a data URL with the picture itself: nothing is fetched.")
    try:
        return Picture(head.removeprefix("data:"), base64.b64decode(data, validate=True))
    except ValueError as error:
        raise RequestError("The image_url of a message holds no valid base64.") from error


def as_json(content: str | Sequence[Content]) -> str | list[dict[str, Any]]:
    """As OpenAI's dialect wants it."""
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{base64.b64encode(part.data).decode()}"},
        }
        for part in content
    ]
