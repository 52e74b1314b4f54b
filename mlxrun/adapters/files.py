"""The files of an adapter: a PEFT or mlx-lm folder, or one GGUF file. Read and checked; nothing is unpickled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx

from ..ops.quantized import QuantizedWeight
from ..spec import ModelError, shown
from ..weights.checkpoint import MAX_CONFIG, ignore_mapped, read_file
from ..weights.files import inside, read_json, unreadable
from ..weights.gguf import named_as_gguf, read_gguf
from ..weights.gguf_tensors import load_tensors
from ..weights.headers import read_header

Format = Literal["peft", "mlx", "gguf"]

CONFIG = "adapter_config.json"
PEFT_FILE, MLX_FILE = "adapter_model.safetensors", "adapters.safetensors"
PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapters.npz")


@dataclass(frozen=True)
class AdapterFile:
    path: Path  # that holds its tensors
    format: Format
    tensors: Mapping[str, mx.array] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)  # adapter_config.json, or a GGUF file's metadata
    digest: str  # of all bytes that say what it is


def read_adapter_file(path: str | Path) -> AdapterFile:
    path = Path(path)
    if named_as_gguf(path) and not os.path.isdir(path):
        return _read_gguf(path)
    if os.path.isdir(path):
        return _read_folder(path)
    if os.path.exists(path):
        raise ModelError(f"{path} is no adapter: that is a folder with {CONFIG}, or a .gguf file.")
    raise ModelError(f"There is no adapter at {path}.")


def _read_folder(folder: Path) -> AdapterFile:
    if not os.path.lexists(folder / CONFIG):
        hint = ": it is a model" if os.path.lexists(folder / "config.json") else ""
        raise ModelError(f"{folder} has no {CONFIG}, so it is no adapter{hint}.")
    config = read_json(inside(folder, CONFIG, "The adapter"), MAX_CONFIG)
    found: list[tuple[str, Format]] = [(PEFT_FILE, "peft"), (MLX_FILE, "mlx")]
    there = [(name, kind) for name, kind in found if os.path.lexists(folder / name)]
    if not there:
        pickled = next((name for name in PICKLES if os.path.lexists(folder / name)), None)
        if pickled is not None:
            raise ModelError(f"{folder} has its weights in {pickled}, which is not read: save it as safetensors.")
        raise ModelError(f"{folder} has neither {PEFT_FILE} nor {MLX_FILE}.")
    name, kind = there[0]
    file = inside(folder, name, "The adapter")
    wanted = read_header(file).tensors
    tensors = read_file(file)
    if tensors.keys() != wanted.keys():
        raise ModelError(f"{file.name} changed while it was read; try again.")
    return AdapterFile(file, kind, _floats(file, tensors), config, _digest(folder / CONFIG, file))


def _read_gguf(path: Path) -> AdapterFile:
    found = read_gguf(path)
    if found.metadata.get("general.type") != "adapter":
        raise ModelError(f"{path} is a model and no adapter: its general.type is not adapter.")
    loaded = load_tensors(path, found.tensors, "mlx", mapped=False, hear=ignore_mapped)
    tensors = {n: t.dequantize(mx.float32) if isinstance(t, QuantizedWeight) else t for n, t in loaded.items()}
    return AdapterFile(path, "gguf", _floats(path, tensors), found.metadata, _digest(path))


def _floats(file: Path, tensors: Mapping[str, mx.array]) -> dict[str, mx.array]:
    for name, tensor in tensors.items():
        if tensor.dtype not in (mx.float32, mx.float16, mx.bfloat16):
            raise ModelError(f"{file.name}: the tensor {shown(name)} is not of floats.")
    return dict(tensors)


def _digest(*files: Path) -> str:
    made = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as opened:
                made.update(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise unreadable(file, error) from error
    return made.hexdigest()
