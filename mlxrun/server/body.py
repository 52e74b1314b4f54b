"""The body of a request: bounded in bytes and in time, UTF-8, strict JSON. Knows no field."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from starlette.requests import ClientDisconnect, Request

from ..text.tokenizer import well_formed
from .check import shown
from .errors import ApiError

SECONDS = 60.0  # a body may take to arrive
CLOSE = {"connection": "close"}  # the rest of the body is not read, so the connection cannot go on
LONG_NUMBER = re.compile(rb"\d{309}")  # one that no float can hold, or a text
MAX_DEPTH = 64  # of values inside values
MAX_VALUES = 1 << 18  # in a body
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read(request: Request, limit: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        message = f"Send the body as it is: the Content-Encoding {shown(encoding)} is not supported."
        raise ApiError(415, message, headers=CLOSE)
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:18]) > limit:
        raise too_large(limit)
    blocks, size = [], 0
    try:
        async with asyncio.timeout(SECONDS):
            async for block in request.stream():
                size += len(block)
                if size > limit:
                    raise too_large(limit)
                blocks.append(block)
    except TimeoutError as error:
        message = f"The body did not arrive within {SECONDS:.0f} seconds."
        raise ApiError(408, message, headers=CLOSE) from error
    except ClientDisconnect as error:
        raise ApiError(400, "The client left before its request was complete.") from error
    return b"".join(blocks)


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit} bytes.", headers=CLOSE)


def parse(raw: bytes) -> dict[str, Any]:
    """Slow for a large body: not for the event loop's thread."""
    try:
        whole = _no_endless if LONG_NUMBER.search(raw) else None
        value = json.loads(raw.decode(), parse_constant=_refuse_constant, parse_float=_finite, parse_int=whole)
        value = well_formed_all(value) if SURROGATE.search(raw) else value
    except UnicodeDecodeError as error:
        raise ApiError(400, f"The body is not valid UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise ApiError(400, "The body is nested too deeply.") from error
    except ValueError as error:
        raise ApiError(400, f"The body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ApiError(400, "The body must be a JSON object.")
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH or raw.count(b",") >= MAX_VALUES:
        check_size(value)
    return value


def check_size(value: Any) -> None:
    """Each value is looked at, in Python: millions of them would take a minute."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        count += sum(map(len, level))
        if count > MAX_VALUES:
            raise ApiError(400, f"The body holds more than {MAX_VALUES} values.")
        inside = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for values in inside for one in values if isinstance(one, dict | list)]
        if not level:
            return
    raise ApiError(400, f"The body is nested too deeply: more than {MAX_DEPTH} values inside each other.")


def well_formed_all(value: Any) -> Any:
    """Lone surrogates, which JSON can spell and UTF-8 cannot, become U+FFFD wherever they stand."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [well_formed_all(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(key): well_formed_all(item) for key, item in value.items()}
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _no_endless(digits: str) -> int:
    _finite(digits)
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number
