"""Reading a GGUF file: metadata, and where each tensor lies. Every count is held against the file's size first.

Versions 2 and 3, little-endian. Metadata comes back as plain Python values, untouched. Knows nothing of
tokenizers or families; `gguf_tensors.py` turns the places into weights.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..spec import ModelError, shown
from .files import size_of, unreadable
from .headers import MAX_EXTENT
from .mapped import MappedPages, believed

MAX_METADATA = 64 << 20  # a vocabulary of 262,144 tokens with merges has about 16 MiB
MAX_AXES = 4
MAX_PARTS = 999
BLOB = re.compile(r"sha256-[0-9a-f]{64}")  # how Ollama names its files
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
MAX_DEPTH = 3  # of arrays in arrays
MAX_ALIGNMENT = 1 << 16

# number in the file: (name, values a block, bytes a block); the types that are read
BLOCKS = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    4: ("MXFP4_RAW", 32, 17),  # Ollama's, of a number that ggml gave up before this format began
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}
# the types that are not, so that an error can name them
OTHERS = {9: "Q8_1", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 41: "Q1_0"}

# metadata types: struct code and size of the plain ones
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LEAST = {**{kind: struct.calcsize("<" + code) for kind, code in _SCALARS.items()}, _STRING: 8, _ARRAY: 12}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in its file, and as what."""

    kind: str
    shape: tuple[int, ...]  # slowest axis first
    start: int  # from the file's first byte
    nbytes: int


@dataclass(frozen=True, slots=True)
class GGUF:
    metadata: dict[str, Any]
    tensors: dict[str, Place]
    metadata_end: int = 0  # the first byte after the metadata


def named_as_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf" or BLOB.fullmatch(path.name) is not None


def parts_of(path: Path, metadata: dict[str, Any]) -> list[Path]:
    """All files of a model, the first one first; a model is usually one file. Any part may be named."""
    count = metadata.get("split.count", 0)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_PARTS:
        raise ModelError(f"{path.name}: split.count must be a count up to {MAX_PARTS}, not {shown(count)}.")
    if count < 2:
        return [path]
    match = PART.search(path.name)
    if match is None or int(match[2]) != count:
        raise ModelError(f"{path.name} is one of {count} parts, but is not named as such (-00001-of-{count:05}.gguf).")
    stem = path.name[: match.start()]
    files = [path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise ModelError(f"{path.name} is one of {count} parts, and {shown(missing[0])} is not beside it.")
    return files


def read_start(raw: bytes, size: int, where: str) -> GGUF | None:
    """Of a file of `size` bytes that begins so; None: its header is longer than this."""
    if size < 24:
        raise ModelError(f"{where} is too short to be a GGUF file.")
    try:
        return _read(_Cursor(raw, min(size, MAX_METADATA), where), size)
    except _Unfinished:
        return None


def read_gguf(path: Path) -> GGUF:
    size = size_of(path)
    if size < 24:
        raise ModelError(f"{path.name} is too short to be a GGUF file.")
    try:
        with path.open("rb") as file, MappedPages.of(file) as view, believed():
            return _read(_Cursor(view, min(size, MAX_METADATA), path.name), size)
    except OSError as error:
        raise unreadable(path, error) from error


class _Unfinished(Exception):
    """There is more of the header than we were given."""


class _Cursor:
    """Reads forward, never past `end`."""

    def __init__(self, view: MappedPages | bytes, end: int, where: str) -> None:
        self.view, self.end, self.where, self.at = view, end, where, 0

    def fail(self, what: str) -> ModelError:
        return ModelError(f"{self.where}: {what}.")

    def take(self, count: int, what: str) -> bytes:
        if count > self.end - self.at:
            raise self.fail(f"{what} has {count} bytes, more than are left of the header")
        found = self.view[self.at : self.at + count]
        if len(found) < count:
            raise _Unfinished
        self.at += count
        return found

    def number(self, code: str, what: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))[0]

    def count(self, what: str, least: int) -> int:
        """How many things follow, each of at least so many bytes."""
        found = int(self.number("Q", what))
        if found > (self.end - self.at) // least:
            raise self.fail(f"{what} claims {found} entries, more than the file can hold")
        return found

    def string(self, what: str) -> str:
        raw = self.take(int(self.number("Q", what)), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"{what} is not valid UTF-8") from error


def _read(cursor: _Cursor, size: int) -> GGUF:
    magic, version = cursor.take(4, "its magic"), cursor.number("I", "its version")
    if magic != b"GGUF":
        raise cursor.fail("it is not a GGUF file")
    if version & 0xFFFF == 0:
        raise cursor.fail("it is a big-endian GGUF file, which is not read")
    if version not in (2, 3):
        raise cursor.fail(f"it is a GGUF file of version {version}; 2 and 3 are read")
    tensors = cursor.count("its number of tensors", 24)
    metadata = _metadata(cursor, cursor.count("its metadata", 13))
    metadata_end = cursor.at
    places = _unique(cursor, tensors, lambda: _place(cursor), "tensor")
    start = _data_start(cursor, metadata)
    found = {name: Place(p.kind, p.shape, start + p.start, p.nbytes) for name, p in places.items()}
    _check_layout(cursor, found, start, size, _alignment(cursor, metadata))
    return GGUF(metadata, found, metadata_end)


def _unique(cursor: _Cursor, count: int, one: Callable[[], tuple[str, Any]], what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(count):
        name, value = one()
        if name in found:
            raise cursor.fail(f"the {what} {shown(name)} stands there twice")
        found[name] = value
    return found


# ---- metadata -----------------------------------------------------------------------------------


def _metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    def one() -> tuple[str, Any]:
        key = cursor.string("a metadata key")
        what = f"the metadata {shown(key)}"
        return key, _value(cursor, int(cursor.number("I", what)), what, 0)

    return _unique(cursor, count, one, "metadata key")


def _value(cursor: _Cursor, kind: int, what: str, depth: int) -> Any:
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind], what)
    if kind == _STRING:
        return cursor.string(what)
    if kind != _ARRAY:
        raise cursor.fail(f"{what} has the unknown type {kind}")
    return _array(cursor, what, depth + 1)


def _array(cursor: _Cursor, what: str, depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        raise cursor.fail(f"{what} has arrays nested more than {MAX_DEPTH} deep")
    kind = int(cursor.number("I", what))
    if kind not in _LEAST:
        raise cursor.fail(f"{what} is an array of the unknown type {kind}")
    count = cursor.count(what, _LEAST[kind])
    if kind in _SCALARS:
        return list(struct.unpack(f"<{count}{_SCALARS[kind]}", cursor.take(count * _LEAST[kind], what)))
    if kind == _STRING:
        return [cursor.string(what) for _ in range(count)]
    return [_array(cursor, what, depth + 1) for _ in range(count)]


def _alignment(cursor: _Cursor, metadata: dict[str, Any]) -> int:
    found = metadata.get("general.alignment", 32)
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= MAX_ALIGNMENT or found & (found - 1):
        raise cursor.fail(f"general.alignment must be a power of two up to {MAX_ALIGNMENT}, not {shown(found)}")
    return found


# ---- tensors ------------------------------------------------------------------------------------


def _place(cursor: _Cursor) -> tuple[str, Place]:
    """One entry of the list of tensors; its place still counts from the first tensor's byte."""
    name = cursor.string("a tensor's name")
    what = f"the tensor {shown(name)}"
    axes = int(cursor.number("I", what))
    if not 1 <= axes <= MAX_AXES:
        raise cursor.fail(f"{what} has {axes} axes; 1 to {MAX_AXES} are possible")
    extents = struct.unpack(f"<{axes}Q", cursor.take(8 * axes, what))
    kind, start = int(cursor.number("I", what)), int(cursor.number("Q", what))
    if kind not in BLOCKS:
        known = ", ".join(label for label, _, _ in BLOCKS.values())
        raise cursor.fail(
            f"{what} is stored as {OTHERS.get(kind, f'type {kind}')}, which is not read yet ({known} are)"
        )
    label, values, nbytes = BLOCKS[kind]
    if not all(1 <= extent <= MAX_EXTENT for extent in extents):
        raise cursor.fail(f"{what} has the shape {extents}, which is not possible")
    if values > 1 and axes < 2:
        raise cursor.fail(f"{what} is a vector stored as {label}; only matrices are")
    if extents[0] % values:
        raise cursor.fail(f"{what} has rows of {extents[0]} values, not a multiple of {label}'s {values}")
    return name, Place(label, tuple(reversed(extents)), start, math.prod(extents) // values * nbytes)


def _data_start(cursor: _Cursor, metadata: dict[str, Any]) -> int:
    alignment = _alignment(cursor, metadata)
    return -(-cursor.at // alignment) * alignment


def _check_layout(cursor: _Cursor, places: dict[str, Place], start: int, size: int, alignment: int) -> None:
    """Tensors lie at aligned places within the file and do not overlap; padding between them is usual."""
    end = start
    for name, place in sorted(places.items(), key=lambda item: item[1].start):
        if place.start % alignment:
            raise cursor.fail(f"the tensor {shown(name)} does not lie at a multiple of {alignment}")
        if place.start < end:
            raise cursor.fail(f"the tensor {shown(name)} overlaps another one")
        end = place.start + place.nbytes
        if end > size:
            raise cursor.fail(
                f"the tensor {shown(name)} ends {end - size} bytes past the file's end; part of it is missing"
            )
