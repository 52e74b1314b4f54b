"""Pictures as requests carry them: their bytes, as text. Nothing is ever fetched. Knows no dialect and no model."""

from __future__ import annotations

import base64
import binascii
import re

from ..turns import Picture
from .check import shown
from .errors import ApiError

DATA = re.compile(r"data:(image/[\w.+-]+)(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)


def from_url(url: str, path: str) -> Picture:
    """Of a data URL. `path`: where it stands in the request."""
    head = DATA.match(url[:256])
    if head is None:
        wanted = "data:image/...;base64, with the picture itself: nothing is fetched"
        raise ApiError(400, f"{path} must begin with {wanted}, not be {shown(url)}.", param=path)
    return from_base64(head[1].lower(), url[head.end() :], path)


def from_base64(kind: str, text: str, path: str) -> Picture:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"{path} holds no valid base64.", param=path) from error
    if not data:
        raise ApiError(400, f"{path} holds an empty picture.", param=path)
    return Picture(kind, data)
