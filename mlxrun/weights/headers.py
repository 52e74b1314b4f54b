"""The header of a safetensors file: every tensor's type, shape and place, believed only after checks.

The format: 8 bytes with the header's length, the header in JSON, then the tensors' bytes without
gaps. Nothing is read beyond the header, and nothing is unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..spec import ModelError, shown
from .files import parse_object, size_of, unreadable

MAX_HEADER = 32 << 20  # a file of 200,000 tensors has about 24 MiB
MAX_EXTENT = 2**31 - 1  # MLX counts an axis in int32
MAX_AXES = 8

# bytes an element; F8 comes as bytes, and what is not here (F64, F8_E5M2, F4) MLX cannot load
DTYPES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64"), 8),
}


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies in its file, and as what."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # from the file's first byte
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    format: str | None  # who wrote it: "pt", "mlx"
    tensors: dict[str, Stored]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    where, size = path.name, size_of(path)
    try:
        with path.open("rb") as file:
            first = file.read(8)
            length = _header_length(first, size, where)
            raw = file.read(length)
    except OSError as error:
        raise unreadable(path, error) from error
    entries = parse_object(raw, f"{where}: its header", strict=True)
    metadata = entries.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata  # MLX writes null where there is none
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelError(f"{where}: __metadata__ must map names to strings.")
    start = 8 + length
    tensors = {name: _tensor(entry, f"{where}: the tensor {shown(name)}", start) for name, entry in entries.items()}
    _check_layout(tensors, start, size, where)
    return Header(metadata.get("format"), tensors, metadata)


def _header_length(first: bytes, size: int, where: str) -> int:
    if first == b"version ":
        raise ModelError(f"{where} is a Git LFS pointer; download the file itself (git lfs pull).")
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length < 2:
        raise ModelError(f"{where} is too short to be a safetensors file.")
    if length > size - 8:
        raise ModelError(f"{where}: its header claims {length} bytes, but the file has only {size}.")
    if length > MAX_HEADER:
        raise ModelError(f"{where}: its header claims {length} bytes; more than {MAX_HEADER} is not believable.")
    return length


def _tensor(entry: Any, who: str, start: int) -> Stored:
    if not isinstance(entry, dict):
        raise ModelError(f"{who} must be described by an object.")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelError(f"{who} has the type {shown(dtype)}, which is not read; {', '.join(DTYPES)} are.")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(_count(n, MAX_EXTENT) for n in shape):
        raise ModelError(f"{who} has the shape {shown(shape)}; it must be at most {MAX_AXES} counts below 2^31.")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_count(n, 2**62) for n in offsets):
        raise ModelError(f"{who} has the data_offsets {shown(offsets)}; they must be two counts.")
    nbytes = math.prod(shape) * DTYPES[dtype]
    if offsets[1] - offsets[0] != nbytes:
        raise ModelError(
            f"{who} lies at {offsets[0]} to {offsets[1]}, but {dtype} of shape {shown(shape)} is {nbytes} bytes."
        )
    return Stored(dtype, tuple(shape), start + offsets[0], nbytes)


def _count(value: object, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= high


def _check_layout(tensors: dict[str, Stored], start: int, size: int, where: str) -> None:
    """Tensors follow each other without overlap or gap, up to the end of the file."""
    end = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if tensor.start < end:
            raise ModelError(f"{where}: the tensor {shown(name)} overlaps another one.")
        if tensor.start > end:
            raise ModelError(f"{where}: {tensor.start - end} bytes before the tensor {shown(name)} belong to none.")
        end = tensor.start + tensor.nbytes
        if end > size:
            raise ModelError(
                f"{where}: the tensor {shown(name)} ends {end - size} bytes past the file's end; part of it is missing."
            )
    if end < size:
        raise ModelError(f"{where}: {size - end} bytes at its end belong to no tensor.")
