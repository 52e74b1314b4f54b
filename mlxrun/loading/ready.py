"""A model in the form that this machine computes with, kept on disk: made once, mapped ever after.

It is a safetensors file: matrices as the native kernels pack them, in the order of use, each on a page of its own, and
all else in float32. Processes with the same model share its pages, and the system may drop and reread them. Its name
tells what it was made from (the source's files with their sizes and times) and by what (our code and the library), so
one that no longer fits is never opened. It is written without a name and gets one when it is whole and on the disk:
what is interrupted leaves nothing behind. Knows nothing of plans; a file that cannot be made is None and a reason.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from ..ops.native import native
from ..ops.quantized import Packed
from ..spec import ModelError
from ..weights.files import native_name
from ..weights.headers import read_header
from .options import Progress

FORMAT = "mlxrun-ready"
SUFFIX = ".ready.safetensors"
HALF = ".making-"  # what a file begins with that could not be made without a name
PAGE = 4096
PLAIN_ALIGN = 64
TENSOR_HEADER, HEADER = 512, 65536  # room for a tensor's entry, for all else
MOST = 64 << 30  # bytes of all such files; the longest unused goes first
SPARE = 1 << 30  # of the disk, to be left free
LEAST = 32 << 20  # a smaller model is packed as fast as it is mapped
OURS = ("families", "weights", "nn", "ops", "loading")  # whose code decides what the bytes mean

Formed = mx.array | Packed


@dataclass(frozen=True, slots=True)
class Source:
    """What a ready file is made from."""

    place: Path
    files: Sequence[Path]
    how: str = ""  # flags that change what is read


def name_of(source: Source) -> str:
    place = str(source.place.resolve())
    identity = [place, source.how, code()]
    for file in source.files:
        seen = os.stat(file)
        identity.append(f"{file.resolve()} {seen.st_size} {seen.st_mtime_ns}")
    return f"{_digest(place)}-{_digest(chr(10).join(identity))}{SUFFIX}"


def of_place(folder: Path, place: Path) -> list[Path]:
    """All that was ever made from that model."""
    return sorted(folder.glob(f"{_digest(str(place.resolve()))}-*{SUFFIX}"))


@cache
def code() -> str:
    """Whatever might pack or name a weight differently: our sources and the native library."""
    home, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    library = [Path(native.__file__)] if native is not None else []
    for file in (*library, *(file for room in OURS for file in sorted((home / room).glob("*.py")))):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


# ---- opening ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    weights: dict[str, Formed]  # canonical name -> view into the file
    mapped: Any  # the file itself
    places: dict[str, tuple[int, int]]  # canonical name -> first byte in the file, bytes


def opened(file: Path) -> Opened | None:
    """None: there is none, or not one of ours."""
    try:
        seen = os.stat(file)
    except OSError:
        return None
    try:
        header = read_header(file)
        layouts = json.loads(header.metadata["packed"])
        with native_name(file) as name:
            mapped = native.MappedFile(name, seen.st_size)
        found: dict[str, Formed] = {}
        for name, place in header.tensors.items():
            if name.startswith("~"):
                continue
            if name in layouts:
                mode, bits, layout = layouts[name]
                found[name] = mapped.packed(place.start, mode, bits, layout)
            elif place.dtype == "F32":
                found[name] = mapped.array(place.start, place.shape, mx.float32)
        # the longest unused goes first; the other time is how a change is known
        os.utime(file, ns=(time.time_ns(), seen.st_mtime_ns))
    except (ModelError, OSError, RuntimeError, KeyError, ValueError, TypeError):
        with suppress(OSError):
            if os.stat(file).st_ino == seen.st_ino:  # another process may have put a good one in its place
                file.unlink()
        return None
    return Opened(found, mapped, {name: (p.start, p.nbytes) for name, p in header.tensors.items() if name in found})


# ---- making -------------------------------------------------------------------------------------


def make(
    file: Path, source: Source, weights: Iterable[tuple[str, Formed]], count: int, size: int, done: Progress
) -> str | None:
    """Write it and give it its name; None, or the reason why there is none. `weights` is gone through once, so that
    only one of them need be in memory; `size` is what they will take, `count` how many they are at most."""
    folder = file.parent
    room = HEADER + 2 * TENSOR_HEADER * count
    try:
        folder.mkdir(parents=True, exist_ok=True)
        make_room(folder, size, keep=file, stale=of_place(folder, source.place))
        if shutil.disk_usage(folder).free < size + room + SPARE:
            return f"{folder} lacks room for {size / 1e9:.1f} GB that would make the next start faster"
        with nameless(file) as sink:
            _write(sink, weights, room, size, done)
    except OSError as error:
        return f"{folder} could not be written: {error.strerror or error}"
    return None


def _write(sink: Any, weights: Iterable[tuple[str, Formed]], room: int, size: int, done: Progress) -> None:
    entries: dict[str, Any] = {}
    layouts: dict[str, Any] = {}
    end = 8 + room
    sink.seek(end)
    for name, weight in weights:
        packed = isinstance(weight, Packed)
        array = cast(Any, weight).data if packed else cast(mx.array, weight)
        if packed:
            layouts[name] = (cast(Any, weight).mode, cast(Any, weight).bits, native.packed_layout(cast(Any, weight)))
        mx.eval(array)
        skip = -end % (PAGE if packed else PLAIN_ALIGN)
        if skip:
            entries[f"~{len(entries)}"] = _entry("U8", [skip], end - 8 - room)
            sink.write(bytes(skip))
        end += skip
        entries[name] = _entry("U8" if packed else "F32", list(array.shape), end - 8 - room, array.nbytes)
        sink.write(memoryview(mx.contiguous(array)).cast("B") if array.size else b"")  # type: ignore[arg-type]  # it has one
        end += array.nbytes
        done(end - 8 - room, max(size, end - 8 - room))
    metadata = {"format": FORMAT, "packed": json.dumps(layouts)}
    header = json.dumps({"__metadata__": metadata, **entries}).encode()
    if len(header) > room:
        raise OSError(f"its header of {len(header)} bytes is larger than was thought")
    sink.seek(0)
    sink.write(struct.pack("<Q", room) + header.ljust(room))


def _entry(dtype: str, shape: list[int], start: int, nbytes: int | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, start + (shape[0] if nbytes is None else nbytes)]}


@contextmanager
def nameless(target: Path) -> Iterator[Any]:
    """A file that gets its name when all is well and on the disk, and vanishes otherwise, even if we are killed."""
    aside = f"{HALF}{os.getpid()}-{target.name}"
    place = os.open(target.parent, os.O_RDONLY)
    try:
        with os.fdopen(_aside(place, aside), "wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
            if not os.path.lexists(target.parent / aside):
                # the folder by its handle, or Python would not follow the link
                os.link(f"/proc/self/fd/{sink.fileno()}", aside, dst_dir_fd=place, follow_symlinks=True)
            os.replace(aside, target.name, src_dir_fd=place, dst_dir_fd=place)
        os.fsync(place)
    finally:
        (target.parent / aside).unlink(missing_ok=True)
        os.close(place)


def _aside(folder: int, name: str) -> int:
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o644, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time makes such files; the second then finds what the first made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_room(folder: Path, size: int, keep: Path, stale: Sequence[Path] = (), most: int = MOST) -> None:
    """Forget what was made from the same model by other code, the longest unused beyond the bound, and what who was
    killed left half made: nobody else is making one now (see `alone`)."""
    for half in folder.glob(f"{HALF}*"):
        half.unlink(missing_ok=True)
    for old in stale:
        if old != keep:
            old.unlink(missing_ok=True)
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_atime)
    total = size + sum(file.stat().st_size for file in files)
    for old in files:
        if total <= most:
            return
        total -= old.stat().st_size
        old.unlink(missing_ok=True)
