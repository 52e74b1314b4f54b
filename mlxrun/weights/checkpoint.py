"""A checkpoint on disk: a folder with config.json and safetensors, or one GGUF file.

Opening reads headers only and checks all of them; `tensors()` makes the arrays, which stay lazy until used,
and nothing here keeps them, so what is cut up or cast later can be freed. The dialect is what the files say
of themselves, never guessed from names or shapes. Which shards belong to a model is the index's word: other
shards that lie in the folder, and tensors of a shard that the index places elsewhere, are stale and ignored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from ..families.config import Dialect
from ..ops.quantized import Weight
from ..spec import ModelError, shown
from .files import inside, native_name, read_json, size_of, unreadable
from .gguf import Place, named_as_gguf, parts_of, read_gguf
from .gguf_tensors import Reading, load_tensors, losses, read_floats, stored_blocks
from .headers import Header, Stored, read_header
from .mapped import Mapped, map_tensors
from .quantized import measure_losses

MAX_CONFIG = 16 << 20  # quantized per module, a config names every module
MAX_INDEX = 64 << 20
INDEX = "model.safetensors.index.json"
MODELOPT = "hf_quant_config.json"
# how pictures are made ready; the first wins, and has it as a part
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
BESIDE = ("config.json", INDEX, MODELOPT, *PROCESSORS)  # what is read of a folder beside its tensors
FORMATS: dict[str, Dialect] = {"pt": "hf", "mlx": "mlx"}
ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")  # in a GGUF file


Lies = tuple[Path, Stored | Place]  # a file, and where in it
Hear = Callable[[Mapped], None]  # is told of each file what came of mapping it


def ignore_mapped(mapped: Mapped) -> None:
    """Nobody asks."""


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    dialect: Dialect
    files: tuple[Path, ...]  # that hold the tensors
    stored: Mapping[str, Lies] = field(repr=False)  # every tensor by the name in its file
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)  # config.json; empty for GGUF
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)  # of a GGUF file, untouched
    rope_factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False)  # of a GGUF file
    reading: Reading = "mlx"  # what GGUF types may become that MLX's layouts do not hold
    processor: Mapping[str, Any] | None = field(default=None, repr=False)  # how pictures are made ready, where it says
    mapped: bool = True  # tensors are views into the files where that can be; else they are read

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """A GGUF tensor's own; a safetensors part's as it is packed."""
        return {name: place.shape for name, (_, place) in self.stored.items()}

    @property
    def bytes(self) -> int:
        """Of all tensors, as stored."""
        return sum(place.nbytes for _, place in self.stored.values())

    def tensors(self, hear: Hear = ignore_mapped) -> dict[str, Weight]:
        """By the name in the file, made anew each time."""
        found: dict[str, Weight] = {}
        for file in self.files:
            if self.dialect == "gguf":
                found |= load_tensors(file, self._gguf_places(file), self.reading, mapped=self.mapped, hear=hear)
            else:
                found |= _load_file(file, self._stored_in(file), self.mapped, hear)
        return {name: found[name] for name in self.stored}

    def map_files(self) -> Iterator[tuple[Mapped, int]]:
        """What comes of mapping each file, and the bytes of its tensors; none of these is read."""
        for file in self.files:
            gguf = self._gguf_places(file)
            stored = stored_blocks(gguf) if gguf else self._stored_in(file)
            total = sum(place.nbytes for place in (gguf or stored).values())
            yield map_tensors(file, stored, size_of(file)), total

    def losses(self) -> Iterator[tuple[str, str, float]]:
        """(name, stored type, relative error) of each tensor that cannot be given as it is stored. Reads samples."""
        if self.dialect == "gguf":
            parts = (losses(file, self._gguf_places(file), self.reading) for file in self.files)
            return chain.from_iterable(parts)
        return measure_losses(self.tensors(), self.config)

    def read_as(self, reading: Reading, *, mapped: bool | None = None) -> Checkpoint:
        """The same headers, read in another way; `mapped` None: as before."""
        return replace(self, reading=reading, mapped=self.mapped if mapped is None else mapped)

    def _gguf_places(self, file: Path) -> dict[str, Place]:
        return {n: place for n, (holder, place) in self.stored.items() if holder == file and isinstance(place, Place)}

    def _stored_in(self, file: Path) -> dict[str, Stored]:
        return {n: place for n, (holder, place) in self.stored.items() if holder == file and isinstance(place, Stored)}


def open_config(folder: Path) -> Checkpoint | None:
    """Of a folder with a config.json and no weights: a checkpoint without files. None: it has some, or no config."""
    holds = (folder / INDEX, *folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.pth"))
    if not (folder / "config.json").is_file() or any(map(os.path.lexists, holds)):
        return None
    config = _config(folder)
    return Checkpoint(folder, _dialect({}, config), (), {}, config, processor=_processor(folder))


def open_checkpoint(path: str | Path, dialect: Dialect | None = None) -> Checkpoint:
    """`dialect` overrides what the safetensors files say of themselves."""
    path = Path(path)
    if os.path.isdir(path):  # as os.path.exists, false for a name that cannot be
        return _open_folder(path, dialect)
    if named_as_gguf(path):
        return _open_gguf(path)
    if os.path.exists(path):
        raise ModelError(f"{path} is neither a model's folder nor a .gguf file.")
    raise ModelError(f"There is no model at {path}.")


# ---- a folder -----------------------------------------------------------------------------------


def _open_folder(folder: Path, dialect: Dialect | None) -> Checkpoint:
    config = _config(folder)
    wanted = _wanted(folder)
    headers = {file: read_header(file) for file in wanted}
    stored: dict[str, Lies] = {}
    for file, names in wanted.items():
        for name in headers[file].tensors if names is None else names:
            if name not in headers[file].tensors:
                raise ModelError(f"{INDEX} places the tensor {shown(name)} in {file.name}, which does not have it.")
            if name in stored:
                raise ModelError(f"{stored[name][0].name} and {file.name} both have the tensor {shown(name)}.")
            stored[name] = file, headers[file].tensors[name]
    return Checkpoint(
        path=folder,
        dialect=dialect or _dialect(headers, config),
        files=tuple(wanted),
        stored=stored,
        config=config,
        processor=_processor(folder),
    )


def _processor(folder: Path) -> dict[str, Any] | None:
    for name in PROCESSORS:
        if os.path.lexists(folder / name):
            found = read_json(inside(folder, name, "The model"), MAX_CONFIG)
            if name == PROCESSORS[0]:
                found = found.get("image_processor") or found.get("feature_extractor") or {}
            if isinstance(found, dict) and found:
                return found
    return None


def _config(folder: Path) -> dict[str, Any]:
    """config.json; how weights are quantized stands in a file of its own where ModelOpt wrote it before 2025."""
    config = read_json(inside(folder, "config.json", "The model"), MAX_CONFIG)
    if config.get("quantization_config") or config.get("quantization") or not os.path.lexists(folder / MODELOPT):
        return config
    found = read_json(inside(folder, MODELOPT, "The model"), MAX_CONFIG)
    producer, said = found.get("producer"), found.get("quantization")
    if not isinstance(producer, dict) or producer.get("name") != "modelopt" or not isinstance(said, dict):
        raise ModelError(f"{MODELOPT} must say that its producer is modelopt, and its quantization; this one does not.")
    if said.get("quant_algo") is None:  # of keys and values only
        return config
    return {**config, "quantization_config": {**said, "quant_method": "modelopt"}}


def _wanted(folder: Path) -> dict[Path, list[str] | None]:
    """The files to read, and which of their tensors; None: all."""
    if os.path.lexists(folder / INDEX):
        return _indexed(folder)
    names = sorted(file.name for file in folder.glob("model*.safetensors"))
    names = ["model.safetensors"] if "model.safetensors" in names else names
    if names:
        return {inside(folder, name, "The model"): None for name in names}
    if any(folder.glob("*.bin")) or any(folder.glob("*.pth")):
        raise ModelError(f"{folder} has its weights in pickle files, which are not read: convert them to safetensors.")
    raise ModelError(f"{folder} has no model.safetensors.")


def _indexed(folder: Path) -> dict[Path, list[str] | None]:
    places = read_json(inside(folder, INDEX, "The model"), MAX_INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise ModelError(f"{INDEX} must have a weight_map from tensors to files.")
    shards: dict[str, list[str] | None] = {}
    for name, file in places.items():
        names = shards.setdefault(file, [])
        assert names is not None
        names.append(name)
    files = {file: inside(folder, file, INDEX) for file in sorted(shards)}
    missing = [file for file, path in files.items() if not os.path.exists(path)]
    if missing:
        raise ModelError(f"{INDEX} names {shown(missing[0])}, which is missing ({len(missing)} of {len(files)} are).")
    return {path: shards[file] for file, path in files.items()}


def _dialect(headers: Mapping[Path, Header], config: Mapping[str, Any]) -> Dialect:
    said = {header.format: file.name for file, header in headers.items() if header.format is not None}
    if len(said) > 1:
        told = " and ".join(f"{file} {shown(name)}" for name, file in list(said.items())[:2])
        raise ModelError(f"The files say of themselves different formats ({told}); --dialect hf or mlx decides.")
    if not said:  # files from before the format was noted; only mlx-lm's writer adds this key
        return "mlx" if config.get("quantization") else "hf"
    ((name, file),) = said.items()
    if name not in FORMATS:
        raise ModelError(f"{file} says that its format is {shown(name)}; known are pt and mlx (--dialect overrides).")
    return FORMATS[name]


def _load_file(file: Path, places: Mapping[str, Stored], mapped: bool, hear: Hear) -> dict[str, Weight]:
    seen: Mapping[str, mx.array] = {}
    if mapped:
        hear(found := map_tensors(file, places, size_of(file)))
        seen = found.views
    read = read_file(file) if len(seen) < len(places) else {}
    return {name: seen[name] if name in seen else read[name] for name in places}


def read_file(file: Path) -> dict[str, mx.array]:
    try:
        with native_name(file) as name:
            return cast(dict[str, mx.array], mx.load(name, format="safetensors"))
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(file, error) from error


# ---- a GGUF file --------------------------------------------------------------------------------


def _open_gguf(path: Path) -> Checkpoint:
    """One file, or the parts of one: the first has the metadata, each says how many tensors all have together."""
    named = read_gguf(path)
    files = parts_of(path, named.metadata)
    parts = {file: named if file == path else read_gguf(file) for file in files}
    metadata = parts[files[0]].metadata
    stored: dict[str, Lies] = {}
    for number, (file, found) in enumerate(parts.items()):
        if len(files) > 1 and found.metadata.get("split.no") != number:
            raise ModelError(
                f"{file.name} says that it is part {shown(found.metadata.get('split.no'))}, counted from 0."
            )
        for name, place in found.tensors.items():
            if name in stored:
                raise ModelError(f"{stored[name][0].name} and {file.name} both have the tensor {shown(name)}.")
            stored[name] = file, place
    wanted = metadata.get("split.tensors.count", len(stored)) if len(files) > 1 else len(stored)
    if wanted != len(stored):
        raise ModelError(f"{files[0].name} and its other parts hold {len(stored)} tensors, not {shown(wanted)}.")
    return Checkpoint(
        path=files[0],
        dialect="gguf",
        files=tuple(files),
        stored=stored,
        metadata=metadata,
        rope_factors={
            name: read_floats(file, name, found.tensors[name])
            for file, found in parts.items()
            for name in ROPE_FACTORS
            if name in found.tensors
        },
    )
