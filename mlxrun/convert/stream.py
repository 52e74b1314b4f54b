"""Writing lazy arrays as safetensors, one at a time: an array is computed, written, and let go.

The header needs only shapes and types, which lazy arrays have. Of the whole model no more is in memory at once
than what the largest tensor takes, with what it is computed from.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..memory.disk import need_room
from ..spec import ModelError
from .aside import ELSEWHERE

SHARD = 5 << 30
INDEX = "model.safetensors.index.json"
NAMES = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16", mx.uint32: "U32", mx.uint8: "U8"}
Progress = Callable[[int, int], None]  # (bytes done, all of them)


def write_model(
    folder: Path, tensors: dict[str, mx.array], *, shard: int = SHARD, progress: Progress | None = None
) -> None:
    """model.safetensors, or several with an index. Empties `tensors`, so that each can be freed."""
    groups = _shards(tensors, shard)
    total, done = sum(array.nbytes for array in tensors.values()), 0
    need_room("The model", total, folder.parent, ELSEWHERE)
    names = [
        f"model-{number:05}-of-{len(groups):05}.safetensors" if len(groups) > 1 else "model.safetensors"
        for number in range(1, len(groups) + 1)
    ]
    places = {name: file for file, group in zip(names, groups, strict=True) for name in group}
    for file, group in zip(names, groups, strict=True):
        with (folder / file).open("wb") as sink:
            sink.write(header({name: tensors[name] for name in group}))
            for name in group:
                array = tensors.pop(name)
                sink.write(raw(array))
                done += array.nbytes
                del array
                mx.clear_cache()
                if progress is not None:
                    progress(done, total)
    if len(groups) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _shards(tensors: Mapping[str, mx.array], limit: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    room = limit
    for name, array in tensors.items():
        if array.nbytes > room and groups[-1]:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= array.nbytes
    return groups


def header(arrays: Mapping[str, mx.array]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, array in arrays.items():
        if array.dtype not in NAMES:
            raise ModelError(f"The weight {name} would be written as {array.dtype}, which is not known.")
        start, end = end, end + array.nbytes
        entries[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def raw(array: mx.array) -> memoryview:
    """Its bytes, not copied where they lie in order."""
    flat = mx.contiguous(array)
    flat = flat.view(mx.uint16) if flat.dtype == mx.bfloat16 else flat
    mx.eval(flat)
    return np.array(flat, copy=False).reshape(-1).view(np.uint8).data


def copy_others(source: Path, target: Path, leave: Iterable[str]) -> None:
    """Tokenizer, template and the like: small files that stand beside the weights."""
    kinds = {".json", ".jinja", ".txt", ".model", ".tiktoken", ".md", ""}
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in kinds and file.name not in leave and not file.name.startswith("."):
            if file.name.endswith(".safetensors.index.json"):
                continue
            (target / file.name).write_bytes(file.read_bytes())
