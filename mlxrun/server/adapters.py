"""The adapters that requests may name as models: those of the start, and others that come and go over HTTP.

A name is looked up here and nowhere else. A path is taken from a request only where a person named the folder that it
must lead into, whatever links and dots it has. Knows no dialect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from .check import shown
from .errors import ApiError

MOST_LETTERS = 256  # of a name


@dataclass(frozen=True)
class NamedAdapter:
    base: str  # the model that it changes
    path: Path
    key: str  # as that model knows it: a later one of the same name is another


class AdapterNames(Mapping[str, NamedAdapter]):
    """Read from any thread, changed on the event loop's."""

    def __init__(self, base: str = "", start: Mapping[str, Path] | None = None, folder: Path | None = None) -> None:
        """`folder`: out of which more may be loaded; None: out of none."""
        self._named = {name: NamedAdapter(base, path, name) for name, path in (start or {}).items()}
        self._folder, self._serial = folder, count(1)

    def __getitem__(self, name: str) -> NamedAdapter:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)  # the mapping is never changed, only replaced

    def __len__(self) -> int:
        return len(self._named)

    @property
    def open(self) -> bool:
        return self._folder is not None

    def found(self, base: str, name: str, path: str) -> NamedAdapter:
        """Nobody may ask for it before it is put here."""
        if not name or len(name) > MOST_LETTERS or not name.isprintable():
            raise ApiError(400, f"lora_name must have 1 to {MOST_LETTERS} printable letters.", param="lora_name")
        return NamedAdapter(base, self._inside(path), f"{name} #{next(self._serial)}")

    def put(self, name: str, adapter: NamedAdapter) -> NamedAdapter | None:
        """The one that had the name, which nobody can ask for from now on."""
        before = self._named.get(name)
        self._named = {**self._named, name: adapter}
        return before

    def remove(self, name: str) -> NamedAdapter:
        found = self._named.get(name)
        if found is None:
            raise ApiError(404, f"There is no adapter {shown(name)} here.", param="lora_name")
        self._named = {other: adapter for other, adapter in self._named.items() if other != name}
        return found

    def named_without_folder(self, sentence: str) -> str:
        """What is told to who asked over HTTP: where the folder lies is nobody's business."""
        return sentence if self._folder is None else sentence.replace(f"{self._folder.resolve()}/", "")

    def _inside(self, path: str) -> Path:
        assert self._folder is not None
        try:
            root = self._folder.resolve(strict=True)
            found = (root / path).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # RuntimeError: links that go round
            found = root = Path()
        if found == root or not found.is_relative_to(root):
            raise ApiError(404, f"There is no adapter {shown(path)} in the folder of --adapter-dir.", param="lora_path")
        return found
