"""The tensors of a safetensors file as views into its pages: nothing is read before it is used, nothing is copied.

On Linux by our extension, on a Mac by MLX itself (see `adopted`). Where neither is possible, and for a tensor that lies
askew, there is no view and the caller reads; `Mapped` says what came of it, and why not more.

A file that is cut short in place, or whose disk fails, has pages that cannot be read. With our extension they show
zeros and the file counts as lost: `believed` then refuses what was computed meanwhile. Without it, so on every Mac,
whoever looks at such a page is ended by the system. A file whose bytes are changed in place is not noticed here.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import mlx.core as mx
import numpy as np

from .. import gpu
from ..ops.native import native
from ..spec import ModelError, shown
from .adopted import COPIED, Adoption, Lying, NotAdopted, address_of, adopt, adoption_here
from .files import native_name
from .headers import Stored
from .pages import FilePages

DTYPES = {
    "BOOL": mx.bool_,
    "U8": mx.uint8,
    "I8": mx.int8,
    "F8_E4M3": mx.uint8,
    "F8_E8M0": mx.uint8,
    "U16": mx.uint16,
    "I16": mx.int16,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "U32": mx.uint32,
    "I32": mx.int32,
    "F32": mx.float32,
    "U64": mx.uint64,
    "I64": mx.int64,
}


NOBODY = "MLX's arrays cannot lie in a file here: that takes a Mac, or the native CPU kernels where no GPU computes"


class MappedPages(mmap.mmap):
    """All of a file, mapped to be read by Python; what cannot be read is noticed as it is in views."""

    _guard: Any = None

    @classmethod
    def of(cls, file: BinaryIO) -> MappedPages:
        pages = cls(file.fileno(), 0, access=mmap.ACCESS_READ)
        if native is not None:
            pages._guard = native.Guard(_address(pages), len(pages), str(file.name))
        return pages

    def close(self) -> None:
        super().close()
        self._guard = None


def _address(pages: mmap.mmap) -> int:
    start: int = np.frombuffer(pages, np.uint8).__array_interface__["data"][0]
    return start


def lost_count() -> int:
    """Mapped files of which a page could not be read, in this process so far."""
    return 0 if native is None else native.lost_count()


def lost_files() -> list[str]:
    return [] if native is None else native.lost_files()


@contextmanager
def believed() -> Iterator[None]:
    """ModelError where a page could not be read meanwhile, whatever error came of that."""
    before = lost_count()
    try:
        yield
    finally:
        kind = sys.exc_info()[0]
        if lost_count() > before and (kind is None or issubclass(kind, Exception)):
            name = shown(Path(lost_files()[-1]).name)[1:-1]
            raise ModelError(f"{name} was cut short while it was read, or its disk fails; bring it anew.")


class Watched(Protocol):
    """A mapped file, for whoever watches that it stays what it was."""

    @property
    def size(self) -> int: ...

    @property
    def lost(self) -> bool:
        """Whether a page of it could not be read."""

    @property
    def unchanged(self) -> bool:
        """Whether it is on disk what it was when it was mapped."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What came of mapping one file."""

    file: Path
    views: Mapping[str, mx.array]
    pages: Watched | None = None  # None: nothing is mapped
    memory: tuple[tuple[int, int], ...] = ()  # addresses and lengths that the views lie in
    adopted: bool = False  # MLX counts these as memory of its own
    reason: str | None = None  # why not every tensor that is worth it is a view

    def without_views(self) -> Mapped:
        """For who wants to know of the file and must not hold its pages."""
        return replace(self, views={})


def map_tensors(file: Path, tensors: Mapping[str, Stored], size: int, adoption: Adoption | None = None) -> Mapped:
    """Views of what can be viewed; the file has `size` bytes now, and must still reach to its last tensor.
    `adoption` None: as this machine does it."""
    if size < end_of(tensors):
        raise ModelError(f"{shown(file.name)[1:-1]} has become shorter since its header was read.")
    adoption = adoption or adoption_here()
    if adoption is not None:
        return _by_adoption(file, tensors, size, adoption)
    if native is not None and not gpu.usable():  # it makes arrays as MLX's CPU build does
        return _by_extension(file, tensors, size)
    return Mapped(file, {}, reason=NOBODY)


def try_mapping(folder: Path) -> Mapped:
    """Of a small file that is made there and goes again: whether this machine maps, and why not. OSError: no room."""
    file = folder / ".mapping-tried"
    data = bytes(range(256)) * (4 * COPIED // 256)
    try:
        file.write_bytes(data)
        found = map_tensors(file, {"tried": Stored("U8", (len(data),), 0, len(data))}, len(data))
        if "tried" in found.views and np.asarray(found.views["tried"]).tobytes() != data:
            return Mapped(file, {}, reason="what is mapped is not what stands in the file")
        return found
    finally:
        file.unlink(missing_ok=True)


def end_of(tensors: Mapping[str, Stored]) -> int:
    return max((place.start + place.nbytes for place in tensors.values()), default=0)


def _by_extension(file: Path, tensors: Mapping[str, Stored], size: int) -> Mapped:
    try:
        with native_name(file) as name:
            mapped = native.MappedFile(name, size)
    except ValueError as error:
        raise changed(file) from error
    except RuntimeError as error:  # a file system that cannot map
        return Mapped(file, {}, reason=f"the file cannot be mapped: {str(error).rpartition(': ')[2]}")
    found = {}
    for name, place in tensors.items():
        dtype = DTYPES[place.dtype]
        if place.start % dtype.size == 0:
            found[name] = mapped.array(place.start, place.shape, dtype)
    memory = (address_of(mapped.array(0, (1,), mx.uint8)), size)
    return Mapped(file, found, mapped, (memory,), reason=askew(len(tensors) - len(found)))


def _by_adoption(file: Path, tensors: Mapping[str, Stored], size: int, adoption: Adoption) -> Mapped:
    places = {name: Lying(p.start, p.nbytes, p.shape, DTYPES[p.dtype]) for name, p in tensors.items()}
    worth = {name: place for name, place in places.items() if place.nbytes >= COPIED}
    if not worth:
        return Mapped(file, {}, reason=None)
    try:
        pages = FilePages(file, size, adoption.page)
        views, memory = adopt(pages, worth, adoption)
    except ValueError as error:
        raise changed(file) from error
    except OSError as error:
        return Mapped(file, {}, reason=f"the file cannot be mapped: {error.strerror or error}")
    except NotAdopted as error:
        return Mapped(file, {}, reason=f"MLX takes no mapped memory here: {error}")
    return Mapped(file, views, pages, memory, True, askew(len(worth) - len(views)))


def askew(count: int) -> str | None:
    if not count:
        return None
    return f"{count} tensor{'s lie' if count > 1 else ' lies'} across what can be mapped at once, or askew in the file"


def changed(file: Path) -> ModelError:
    return ModelError(f"{shown(file.name)[1:-1]} has changed since its header was read; try again.")
