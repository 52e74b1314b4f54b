"""A GGUF file -> another one in F16, Q8_0, Q4_0 or Q4_1, with the same metadata byte for byte but for its file type.

Matrices whose rows are whole blocks take the new type; vectors, routers and what does not fit stay as they are in
float32. One tensor after the other is computed and written, into a file aside that is renamed at the end.
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError
from ..weights import Checkpoint
from ..weights.gguf import BLOCKS, read_gguf
from .aside import sync
from .stream import Progress

BLOCK = 32
ALIGNMENT = "general.alignment"
FILE_TYPE = b"general.file_type" + struct.pack("<I", 4)  # a uint32 follows
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7}
NUMBERS = {label: number for number, (label, _, _) in BLOCKS.items()}
SIZES = {label: (values, nbytes) for label, values, nbytes in BLOCKS.values()}


@dataclass(frozen=True, slots=True)
class Entry:
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


def write_gguf(checkpoint: Checkpoint, target: Path, kind: str, progress: Progress | None = None) -> None:
    if checkpoint.dialect != "gguf" or len(checkpoint.files) > 1:
        raise ModelError(f"{checkpoint.path.name} is not one GGUF file; only from such a file is another one written.")
    if os.path.lexists(target):
        raise ModelError(f"{target} is there already; name a file that is not.")
    tensors = checkpoint.tensors()
    entries = [Entry(name, _kind(name, weight, kind), tuple(weight.shape)) for name, weight in tensors.items()]
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".making", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as sink:
            for chunk in _chunks(checkpoint, entries, tensors, kind, progress):
                sink.write(chunk)
        os.chmod(aside, 0o644)
        sync(Path(aside))
        os.replace(aside, target)
        sync(target.parent)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _kind(name: str, weight: Weight, kind: str) -> str:
    matrix = weight.ndim > 1 and "ffn_gate_inp" not in name and "norm" not in name
    return kind if matrix and (kind == "F16" or weight.shape[-1] % BLOCK == 0) else "F32"


def _chunks(
    checkpoint: Checkpoint, entries: list[Entry], tensors: dict[str, Weight], kind: str, progress: Progress | None
) -> Iterator[bytes]:
    alignment = int(checkpoint.metadata.get(ALIGNMENT, 32))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(entries), len(checkpoint.metadata)) + _metadata(checkpoint.path, kind)
    place = 0
    for entry in entries:
        head += entry.info(place)
        place += -(-entry.nbytes // alignment) * alignment
    yield head + bytes(-len(head) % alignment)
    done, total = 0, place
    for entry in entries:
        raw = WRITERS[entry.kind](_plain(tensors.pop(entry.name)))
        assert len(raw) == entry.nbytes
        yield raw + bytes(-len(raw) % alignment)
        done += -(-entry.nbytes // alignment) * alignment
        if progress is not None:
            progress(done, total)


def _metadata(path: Path, kind: str) -> bytes:
    """As it stands in the source, types and all."""
    end = read_gguf(path).metadata_end
    with path.open("rb") as file:
        raw = bytearray(file.read(end)[24:])
    at = raw.find(FILE_TYPE)
    if at >= 0:
        struct.pack_into("<I", raw, at + len(FILE_TYPE), FILE_TYPES[kind])
    return bytes(raw)


def _plain(weight: Weight) -> np.ndarray:
    full = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)
    return np.array(full)


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
    "F16": lambda values: values.astype("<f2").tobytes(),
    "Q8_0": q8_0,
    "Q4_0": q4_0,
    "Q4_1": q4_1,
}
