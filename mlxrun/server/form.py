"""A body that is a form with files (multipart/form-data): its parts, and its fields as their schema means them.

RFC 7578. Bounded in parts and in bytes of headers; the body itself was bounded before it came here. Knows no field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .check import Schema, shown
from .errors import ApiError

KIND = "multipart/form-data"
MOST_PARTS = 64
MOST_HEADERS = 8192  # bytes of one part
MOST_TEXT = 1 << 20  # bytes of a field that is no file
BOUNDARY = re.compile(r'boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
NAME = re.compile(r';\s*name=(?:"([^"]*)"|([^\s";]+))', re.IGNORECASE)
FILE = re.compile(r';\s*filename\*?=(?:"([^"]*)"|([^\s";]+))', re.IGNORECASE)
FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class FormPart:
    name: str
    file: str | None  # its name; None: a field
    data: bytes


def parts_of(raw: bytes, content_type: str) -> list[FormPart]:
    """All parts of a body, in order."""
    kind, boundary = content_type.partition(";")[0].strip().lower(), BOUNDARY.search(content_type)
    if kind != KIND or boundary is None:
        raise ApiError(415, f"Send a form with a file, as {KIND} with a boundary, not {shown(content_type)}.")
    found = [part_of(part) for part in between(raw, b"--" + (boundary[1] or boundary[2]).encode("latin-1"))]
    if not found:
        raise ApiError(400, "The form has no parts.")
    return found


def between(raw: bytes, mark: bytes) -> Iterator[memoryview]:
    """What lies between two marks, each of which begins a line."""
    view, at = memoryview(raw), 0 if raw.startswith(mark) else raw.find(b"\r\n" + mark) + 2
    if at == 1:
        raise ApiError(400, "The form does not begin with the boundary that its Content-Type names.")
    for count in range(MOST_PARTS + 1):
        at += len(mark)
        if raw[at : at + 2] == b"--":
            return
        if count == MOST_PARTS:
            raise ApiError(400, f"The form has more than {MOST_PARTS} parts.")
        line, end = raw.find(b"\r\n", at, at + 64), raw.find(b"\r\n" + mark, at)
        if line < 0 or end < line:
            raise ApiError(400, "The form ends in the middle of a part.")
        yield view[line + 2 : max(end, line + 2)]
        at = end + 2


def part_of(part: memoryview) -> FormPart:
    head = bytes(part[:MOST_HEADERS])
    end = head.find(b"\r\n\r\n")
    if end < 0:
        raise ApiError(400, f"A part of the form has no end of its headers within {MOST_HEADERS} bytes.")
    lines = head[:end].decode("utf-8", "replace").split("\r\n")
    told = next((line for line in lines if line.lower().startswith("content-disposition:")), "")
    name, file = NAME.search(told), FILE.search(told)
    if name is None:
        raise ApiError(400, "A part of the form has no name.")
    data = bytes(part[end + 4 :])
    return FormPart(name[1] or name[2] or "", None if file is None else file[1] or file[2] or "", data)


def fields_of(parts: list[FormPart], schema: Schema) -> dict[str, Any]:
    """The fields that are no files, as numbers, flags and lists where their schema has such. Names of lists end in []
    or do not, and several of a name are one."""
    properties: Mapping[str, Any] = schema["properties"]
    found: dict[str, Any] = {}
    for part in parts:
        if part.file is not None:
            continue
        if len(part.data) > MOST_TEXT:
            raise ApiError(400, f"{shown(part.name)} is longer than {MOST_TEXT} bytes.", param=part.name[:80])
        try:
            text = part.data.decode()
        except UnicodeDecodeError as error:
            raise ApiError(400, f"{shown(part.name)} is not valid UTF-8.", param=part.name[:80]) from error
        name = part.name.removesuffix("[]")
        kind = properties.get(name, {})
        if kind.get("type") == "array":
            found.setdefault(name, []).append(text)
        else:
            found[name] = value_of(text, kind.get("type"))
    return found


def value_of(text: str, kind: str | None) -> Any:
    """As it stands where it is none of that kind; `check` says so then."""
    if kind == "boolean":
        return FLAGS.get(text.strip().lower(), text)
    if kind in ("number", "integer"):
        try:
            number = float(text)
        except ValueError:
            return text
        return number if abs(number) < float("inf") else text
    return text
