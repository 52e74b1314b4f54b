"""Colours -> the bytes of a file that holds them without loss."""

from __future__ import annotations

import io
from typing import Any


def png_of(pixels: Any) -> bytes:
    """uint8 (height, width) or (height, width, 3 or 4)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
