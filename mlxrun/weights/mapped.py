"""The tensors of a safetensors file as views into its pages: nothing is read before it is used, nothing is copied.

On Linux by our extension. On Metal MLX wraps a page-aligned buffer itself; that way is written from its documentation
and was never run. Where neither is possible, and for a tensor that lies askew, there is no view: the caller reads.

A file that is cut short in place, or whose disk fails, has pages that cannot be read. With our extension they show
zeros and the file counts as lost: `believed` then refuses what was computed meanwhile. Without it, so on every Mac,
whoever looks at such a page is ended by the system. A file whose bytes are changed in place is not noticed here.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import numpy as np

from .. import gpu
from ..ops.native import native
from ..spec import ModelError, shown
from .files import native_name
from .headers import Stored

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


def views(file: Path, tensors: Mapping[str, Stored], size: int) -> dict[str, mx.array]:
    """Of those that can be viewed; the file has `size` bytes now, and must still reach to its last tensor."""
    if size < end_of(tensors):
        raise ModelError(f"{shown(file.name)[1:-1]} has become shorter since its header was read.")
    if native is not None:
        return _by_extension(file, tensors, size)
    return _by_metal(file, tensors) if gpu.metal() else {}


def end_of(tensors: Mapping[str, Stored]) -> int:
    return max((place.start + place.nbytes for place in tensors.values()), default=0)


def _by_extension(file: Path, tensors: Mapping[str, Stored], size: int) -> dict[str, mx.array]:
    try:
        with native_name(file) as name:
            mapped = native.MappedFile(name, size)
    except ValueError as error:
        raise ModelError(f"{shown(file.name)[1:-1]} has changed since its header was read; try again.") from error
    except RuntimeError:  # a file system that cannot map
        return {}
    found = {}
    for name, place in tensors.items():
        dtype = DTYPES[place.dtype]
        if place.start % dtype.size == 0:
            found[name] = mapped.array(place.start, place.shape, dtype)
    return found


def _by_metal(file: Path, tensors: Mapping[str, Stored]) -> dict[str, mx.array]:
    """One adopted mapping a tensor, from the page it begins in: an axis of bytes could not span a large file."""
    found = {}
    try:
        with file.open("rb") as opened:
            for name, place in tensors.items():
                first = place.start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
                skip, length = place.start - first, place.start + place.nbytes - first
                if length >= 2**31 or not place.nbytes or place.start % DTYPES[place.dtype].size:
                    continue
                pages = mmap.mmap(opened.fileno(), length, access=mmap.ACCESS_READ, offset=first)
                whole = mx.asarray(np.frombuffer(pages, np.uint8), copy=False)
                found[name] = whole[skip:].view(DTYPES[place.dtype]).reshape(place.shape)
    except (OSError, ValueError):  # MLX says so where it would have to copy
        return {}
    return found
