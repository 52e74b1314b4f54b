"""Writing GGUF files in F16, Q8_0, Q4_0 or Q4_1: the format, its blocks, and one GGUF file made from another.

Matrices whose rows are whole blocks take the new type; vectors, routers, tables of positions and what does not fit
are float32. One tensor after the other is computed and written, some rows at a time, into a file aside that is
renamed at the end. From a GGUF file the metadata stays byte for byte but for the file type.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..memory.disk import need_room
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError
from ..weights import Checkpoint
from ..weights.gguf import BLOCKS, read_gguf
from ..weights.mapped import believed
from .aside import ELSEWHERE, write_aside
from .stream import Progress

BLOCK = 32
CHUNK = 1 << 23  # values that are turned into blocks at a time
ALIGNMENT = "general.alignment"
FILE_TYPE = b"general.file_type" + struct.pack("<I", 4)  # a uint32 follows
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7}
NUMBERS = {label: number for number, (label, _, _) in BLOCKS.items()}
SIZES = {label: (values, nbytes) for label, values, nbytes in BLOCKS.values()}
KEPT = ("ffn_gate_inp", "norm", "position_embd", "token_types", "ssm_conv1d", ".bias")  # in the names of what stays F32
SPLIT = ("split.no", "split.count", "split.tensors.count")  # said by a file in parts
WHOLE = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 10: 8, 11: 8}  # types of whole numbers in metadata: bytes

Tensor = Sequence[Weight]  # its rows, in parts that follow each other


@dataclass(frozen=True, slots=True)
class TensorEntry:
    name: str
    kind: str
    shape: tuple[int, ...]  # slowest axis first

    @property
    def nbytes(self) -> int:
        values, nbytes = SIZES[self.kind]
        return math.prod(self.shape) // values * nbytes

    def info(self, offset: int) -> bytes:
        raw, axes = self.name.encode(), self.shape[::-1]
        return struct.pack(f"<Q{len(raw)}sI{len(axes)}QIQ", len(raw), raw, len(axes), *axes, NUMBERS[self.kind], offset)


@dataclass(frozen=True, slots=True)
class Head:
    """All metadata as the file has it."""

    count: int
    raw: bytes
    alignment: int = 32


def write_gguf(checkpoint: Checkpoint, target: Path, kind: str, progress: Progress | None = None) -> None:
    """Of one file, or of all parts of one: the first part's metadata, and one file of all their tensors."""
    metadata = {key: value for key, value in checkpoint.metadata.items() if key not in SPLIT}
    head = Head(len(metadata), _same(checkpoint.path, kind), int(metadata.get(ALIGNMENT, 32)))
    write_file(target, head, {name: (weight,) for name, weight in checkpoint.tensors().items()}, kind, progress)


def write_file(
    target: Path, head: Head, tensors: dict[str, Tensor], kind: str, progress: Progress | None = None
) -> None:
    """All of it or nothing. Empties `tensors`, so that each can be freed."""
    entries = [_entry(name, parts, kind) for name, parts in tensors.items()]
    need_room(target, len(head.raw) + sum(entry.nbytes for entry in entries), target.parent, ELSEWHERE)
    with write_aside(target, folder=False) as aside, aside.open("wb") as sink, believed():
        for chunk in _chunks(head, entries, tensors, progress):
            sink.write(chunk)


def _entry(name: str, parts: Tensor, kind: str) -> TensorEntry:
    first = parts[0]
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
    matrix = first.ndim > 1 and not any(word in name for word in KEPT)
    return TensorEntry(name, kind if matrix and (kind == "F16" or shape[-1] % BLOCK == 0) else "F32", shape)


def _chunks(
    head: Head, entries: list[TensorEntry], tensors: dict[str, Tensor], progress: Progress | None
) -> Iterator[bytes]:
    start = struct.pack("<4sIQQ", b"GGUF", 3, len(entries), head.count) + head.raw
    place = 0
    for entry in entries:
        start += entry.info(place)
        place += -(-entry.nbytes // head.alignment) * head.alignment
    yield start + bytes(-len(start) % head.alignment)
    done, total = 0, place
    for entry in entries:
        written = 0
        for part in tensors.pop(entry.name):
            for raw in _blocks(part, entry):
                written += len(raw)
                yield raw
        assert written == entry.nbytes
        yield bytes(-written % head.alignment)
        done += -(-entry.nbytes // head.alignment) * head.alignment
        mx.clear_cache()
        if progress is not None:
            progress(done, total)


def _blocks(weight: Weight, entry: TensorEntry) -> Iterator[bytes]:
    """Some rows at a time."""
    mx.eval(*(weight.parts if isinstance(weight, QuantizedWeight) else (weight,)))
    step = max(1, CHUNK // max(1, math.prod(weight.shape[1:])))
    for first in range(0, weight.shape[0], step):
        values = _plain(weight, slice(first, first + step))
        raw = WRITERS[entry.kind](values)
        if entry.kind == "F16" and np.isinf(np.frombuffer(raw, "<f2")).any() and np.isfinite(values).all():
            raise ModelError(f"The weight {entry.name} has values that float16 cannot hold; write Q8_0 instead.")
        yield raw


def _plain(weight: Weight, rows: slice) -> np.ndarray:
    if isinstance(weight, QuantizedWeight):
        return np.array(weight.rows(lambda part: part[rows]).dequantize(mx.float32))
    return np.array(weight[rows].astype(mx.float32))


# ---- metadata -----------------------------------------------------------------------------------


def _same(path: Path, kind: str) -> bytes:
    """As it stands in the source, types and all, but for what says that it is one of several parts."""
    end = read_gguf(path).metadata_end
    with path.open("rb") as file:
        raw = bytearray(file.read(end)[24:])
    at = raw.find(FILE_TYPE)
    if at >= 0:
        struct.pack_into("<I", raw, at + len(FILE_TYPE), FILE_TYPES[kind])
    for key in SPLIT:
        at = raw.find(_string(key))
        if at >= 0:
            value = at + len(_string(key)) + 4
            size = WHOLE.get(struct.unpack_from("<I", raw, value - 4)[0])
            if size is None:
                raise ModelError(f"{path.name}: {key} must be a whole number.")
            del raw[at : value + size]
    return bytes(raw)


def encode_metadata(metadata: Mapping[str, Any]) -> Head:
    """Whole numbers become uint32 (int32 in lists), numbers float32."""
    return Head(len(metadata), b"".join(_string(key) + _typed(value) for key, value in metadata.items()))


def _typed(value: Any) -> bytes:
    if not isinstance(value, list):
        number, raw = _value(value, "I")
        return struct.pack("<I", number) + raw
    found = [_value(item, "i") for item in value]
    kind = found[0][0] if found else _value("", "i")[0]
    return struct.pack("<IIQ", 9, kind, len(found)) + b"".join(raw for _, raw in found)


def _value(value: Any, whole: str) -> tuple[int, bytes]:
    match value:
        case bool():
            return 7, struct.pack("<?", value)
        case int():
            return {"I": 4, "i": 5}[whole], struct.pack(f"<{whole}", value)
        case float():
            return 6, struct.pack("<f", value)
        case str():
            return 8, _string(value)
    raise TypeError(f"no metadata type for {value!r}")


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


# ---- blocks, as ggml's reference quantizers make them -------------------------------------------


def _rounded(values: np.ndarray) -> np.ndarray:
    """Halves go away from zero."""
    return np.asarray(np.sign(values) * np.floor(np.abs(values) + 0.5))


def _inverse(scales: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.where(scales == 0, 0, 1 / scales).astype(np.float32)


def _halves(*columns: np.ndarray) -> np.ndarray:
    return np.concatenate([column.astype("<f2") for column in columns], axis=-1).view(np.uint8)


def _nibbles(codes: np.ndarray) -> np.ndarray:
    return np.asarray(codes[:, :16] | codes[:, 16:] << 4)


def f16(values: np.ndarray) -> bytes:
    with np.errstate(over="ignore"):
        return values.astype("<f2").tobytes()


def q8_0(values: np.ndarray) -> bytes:
    blocks = values.reshape(-1, BLOCK)
    d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    codes = _rounded(blocks * _inverse(d)).astype(np.int8).view(np.uint8)
    return np.concatenate([_halves(d), codes], axis=1).tobytes()


def q4_0(values: np.ndarray) -> bytes:
    blocks = values.reshape(-1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    d = largest / np.float32(-8)
    codes = np.trunc(blocks * _inverse(d) + np.float32(8.5)).clip(0, 15).astype(np.uint8)
    return np.concatenate([_halves(d), _nibbles(codes)], axis=1).tobytes()


def q4_1(values: np.ndarray) -> bytes:
    blocks = values.reshape(-1, BLOCK)
    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    d = (high - low) / np.float32(15)
    codes = np.trunc((blocks - low) * _inverse(d) + np.float32(0.5)).clip(0, 15).astype(np.uint8)
    return np.concatenate([_halves(d, low), _nibbles(codes)], axis=1).tobytes()


WRITERS: Mapping[str, Callable[[np.ndarray], bytes]] = {
    "F32": lambda values: values.astype("<f4").tobytes(),
    "F16": f16,
    "Q8_0": q8_0,
    "Q4_0": q4_0,
    "Q4_1": q4_1,
}
