"""Mapped pages as MLX arrays without a copy, by MLX itself: on a Mac the GPU shares the processor's memory.

MLX hands pages to Metal (`newBufferWithBytesNoCopy`), which wants whole pages of one mapping and takes no more than
`max_buffer_length` at once. So whole windows of a file are adopted, each once, and tensors are cut out of them. MLX
counts what it adopts as memory of its own, though the system may drop such pages and read them again, and it never
writes into them: they have an owner. Read in MLX's sources (python/src/convert.cpp, mlx/backend/metal/allocator.cpp,
`array::is_donatable`); never run on a Mac.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import numpy as np

from .. import gpu
from .pages import MOST_WORDS, WORD, FilePages, Window, windows

COPIED = 64 << 10  # bytes; what is smaller is not worth that a window be held for it
LONGEST = 1 << 30  # bytes of a buffer where the GPU does not say
UNSIGNED = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}


class NotAdopted(Exception):
    """Why MLX does not take the memory of others."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """How memory becomes an array."""

    take: Callable[[np.ndarray], mx.array]  # uint64, whole pages; what it raises says why not
    page: int = mmap.PAGESIZE
    longest: int = LONGEST  # bytes that it takes at once


@dataclass(frozen=True, slots=True)
class Lying:
    """A tensor in its file."""

    start: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: mx.Dtype


def adoption_here() -> Adoption | None:
    """None: MLX's arrays are not in memory that others may bring. On a Mac they are, also where the CPU computes."""
    if not gpu.metal() and sys.platform != "darwin":
        return None
    return Adoption(partial(mx.asarray, copy=False), longest=gpu.count("max_buffer_length") or LONGEST)


def adopt(
    pages: FilePages, tensors: Mapping[str, Lying], adoption: Adoption
) -> tuple[dict[str, mx.array], tuple[tuple[int, int], ...]]:
    """Those that lie in one window and not askew, and the memory (address, length) of all windows."""
    ends = [(place.start, place.start + place.nbytes) for place in tensors.values()]
    taken = [(window, take(pages, window, adoption)) for window in windows(ends, adoption.page, adoption.longest)]
    found = {}
    for name, place in tensors.items():
        for window, words in taken:
            if window.start <= place.start and place.start + place.nbytes <= window.end:
                view = cut(words, place.start - window.start, place)
                if view is not None:
                    found[name] = view
                break
    return found, tuple((address_of(words), words.nbytes) for _, words in taken)


def take(pages: FilePages, window: Window, adoption: Adoption) -> mx.array:
    try:
        return adoption.take(pages.words(window))
    except (ValueError, RuntimeError, MemoryError) as error:  # a copy would be needed, or there is no device
        raise NotAdopted((str(error).strip().splitlines() or ["no reason is given"])[0].rstrip(".")) from error


def cut(words: mx.array, at: int, place: Lying) -> mx.array | None:
    """Out of the words of a window, `at` bytes from its beginning; None: it lies askew. Nothing is copied."""
    size, count = place.dtype.size, math.prod(place.shape)
    if at % size:
        return None
    first, last = at // WORD, -(-(at + place.nbytes) // WORD)
    held = words[first:last]
    if (last - first) * WORD // size <= MOST_WORDS:
        skip = (at - first * WORD) // size
        return held.view(place.dtype)[skip : skip + count].reshape(place.shape)
    if at % WORD or place.nbytes % (WORD * place.shape[0]):  # no axis is as long as all of it
        return None
    return held.reshape(place.shape[0], -1).view(place.dtype).reshape(place.shape)


def address_of(array: mx.array) -> int:
    """Where its first element lies. It is evaluated."""
    plain = array.view(UNSIGNED[array.dtype.size])  # NumPy knows no bfloat16
    address: int = np.asarray(plain).__array_interface__["data"][0]
    return address
