"""Files of pictures: what is upright, what a colour is, and what no header may make us do."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlxrun.core import RequestError
from mlxrun.media.open import MOST_BYTES, open_picture


def saved(found: Image.Image, kind: str, **more: Any) -> bytes:
    file = io.BytesIO()
    found.save(file, kind, **more)
    return file.getvalue()


def test_a_turned_photograph_stands_upright() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is at the right
    found = np.asarray(open_picture(saved(Image.fromarray(pixels), "PNG", exif=exif)))
    assert found.shape == (3, 2, 3)
    assert found[0, 1].tolist() == [255, 255, 255]


def test_sixteen_bits_become_eight() -> None:
    deep = Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))
    assert np.asarray(open_picture(saved(deep, "PNG")))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_what_shines_through_is_dropped_as_transformers_does() -> None:
    clear = Image.fromarray(np.array([[[10, 20, 30, 0]]], np.uint8), "RGBA")
    assert np.asarray(open_picture(saved(clear, "PNG"))).tolist() == [[[10, 20, 30]]]


def test_of_what_moves_the_first_frame_is_seen() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    found = open_picture(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("data", [b"", b"\0" * (MOST_BYTES + 1)], ids=["empty", "too large"])
def test_a_size_that_no_picture_has(data: bytes) -> None:
    with pytest.raises(RequestError, match=r"^Picture 2 "):
        open_picture(data, "Picture 2")
