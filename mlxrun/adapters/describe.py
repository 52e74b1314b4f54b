"""What an adapter's files say of it: whose it is, how large, and which matrices it changes. For people and programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..spec import ModelError, one_line
from ..weights.gguf import named_as_gguf, read_gguf
from .files import CONFIG, AdapterFile, read_adapter_file
from .names import name_of
from .pairs import changes_of

BASES = ("base_model_name_or_path", "model", "general.base_model.0.name", "general.name")  # PEFT's, mlx-lm's, GGUF's


@dataclass(frozen=True)
class AdapterFacts:
    name: str
    format: str
    base: str | None  # the model that it was trained on, as its files name that
    digest: str
    bytes: int
    ranks: tuple[int, ...]
    scales: tuple[float, ...]
    lengths: bool  # of rows are its own (DoRA)
    matrices: Mapping[str, int]  # the last part of their names, and how many are called so

    def data(self) -> dict[str, Any]:
        kind = "dora" if self.lengths else "lora"
        told = {"name": self.name, "format": self.format, "kind": kind, "base": self.base, "digest": self.digest}
        more = {"ranks": list(self.ranks), "scales": list(self.scales), "matrices": dict(self.matrices)}
        return {**told, "bytes": self.bytes, **more}


def facts_of(path: Path) -> AdapterFacts:
    file = read_adapter_file(path)
    changes = changes_of(file)
    called = Counter(name.removesuffix(".weight").rpartition(".")[2] for name in changes)
    return AdapterFacts(
        name_of(path.absolute()),
        file.format,
        base_of(file),
        file.digest,
        sum(tensor.nbytes for tensor in file.tensors.values()),
        tuple(sorted({change.rank for change in changes.values()})),
        tuple(sorted({round(change.scale, 6) for change in changes.values()})),
        any(change.magnitude is not None for change in changes.values()),
        dict(called.most_common()),
    )


def base_of(file: AdapterFile) -> str | None:
    said = (file.config.get(key) for key in BASES)
    return next((one_line(name) for name in said if isinstance(name, str) and name), None)


def is_adapter(path: Path) -> bool:
    """Not a model: said by a file that stands there, or inside of a .gguf file."""
    if os.path.isdir(path):
        return os.path.lexists(path / CONFIG) and not os.path.lexists(path / "config.json")
    if not named_as_gguf(path) or not os.path.isfile(path):
        return False
    try:
        return read_gguf(path).metadata.get("general.type") == "adapter"
    except ModelError:
        return False


def adapters_in(folder: Path) -> Iterator[Path]:
    """Directly in it, by name."""
    yield from (place for place in sorted(folder.iterdir()) if not place.name.startswith(".") and is_adapter(place))
