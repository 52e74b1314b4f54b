"""The adapters that one loaded model has: which are there, who uses them, and which goes for the next.

Looked at and lent from any thread; made on the thread that owns MLX, between passes. One that is in use stays: what is
forgotten meanwhile goes when its last user has given it back. Knows no file's format and no request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from ..memory.headroom import give_back
from ..ops.adapters import Adapter
from ..spec import ModelError

MIB = 2**20


class AdaptersInUse(ModelError):
    """There is no room for one more while all others are in use; later there may be."""


class OpenedAdapter(Protocol):
    """One whose files were read and checked for this model."""

    @property
    def nbytes(self) -> int:
        """That it will take."""

    def form(self) -> Adapter: ...


@dataclass(eq=False)
class HeldAdapter:
    adapter: Adapter
    users: int = 0
    used: int = 0  # counts up
    leaving: bool = False  # with its last user


class LoadedAdapters(Mapping[str, Adapter]):
    def __init__(
        self,
        open_one: Callable[[str, Path], OpenedAdapter],
        most: int | None = None,
        room: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`most`: at once; None: as many as there is memory for. `room`: bytes that are free; None: nobody counts."""
        self._open, self._most, self._room = open_one, most, room
        self._held: dict[str, HeldAdapter] = {}
        self._changed, self._uses = threading.Lock(), count(1)

    def __getitem__(self, name: str) -> Adapter:
        return self._held[name].adapter

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._held))

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        return sum(held.adapter.nbytes for held in list(self._held.values()))

    def add(self, name: str, adapter: Adapter) -> None:
        """One that is made already."""
        with self._changed:
            self._held[name] = HeldAdapter(adapter, used=next(self._uses))

    def lend(self, name: str) -> bool:
        """Whether it is there; then it stays until it is given back. Who knew its name before it was forgotten gets it
        too."""
        with self._changed:
            held = self._held.get(name)
            if held is None:
                return False
            held.users, held.used = held.users + 1, next(self._uses)
            return True

    def take_back(self, name: str) -> None:
        with self._changed:
            held = self._held[name]  # one that is lent is there
            held.users -= 1
            if held.leaving and not held.users:
                del self._held[name]

    def forget(self, name: str) -> None:
        """As soon as nobody uses it."""
        with self._changed:
            held = self._held.get(name)
            if held is not None:
                held.leaving = True
                if not held.users:
                    del self._held[name]

    def load(self, name: str, path: Path) -> None:
        """Lent already. On the thread that owns MLX."""
        if self.lend(name):
            return
        opened = self._open(name, path)
        self._make_room(name, opened.nbytes)
        self.add(name, opened.form())
        self.lend(name)

    def _make_room(self, name: str, wanted: int) -> None:
        while self._most is not None and len(self._held) >= self._most:
            if not self._drop_idle():
                raise AdaptersInUse(
                    f"There is no room for the adapter {name!r}: {self._most} may be loaded at once, and all of them "
                    "answer somebody; ask again, or serve with a larger --max-adapters."
                )
        while (room := self._room()) is not None and wanted > room:
            if not self._drop_idle():
                raise AdaptersInUse(
                    f"The adapter {name!r} takes {wanted / MIB:.1f} MiB, and {room / MIB:.1f} MiB of memory are left: "
                    "unload another, or load the model with a shorter context."
                )
            give_back()

    def _drop_idle(self) -> bool:
        """The longest unused."""
        with self._changed:
            idle = [name for name, held in self._held.items() if not held.users]
            if idle:
                del self._held[min(idle, key=lambda name: self._held[name].used)]
        return bool(idle)


def _none(name: str, path: Path) -> OpenedAdapter:
    raise ModelError("This model was loaded without a place for adapters: serve it with --adapter or --adapter-dir.")


NO_ADAPTERS = LoadedAdapters(_none)
