"""A model in the form that this machine computes with, kept on disk: made once, mapped ever after.

It is a safetensors file: matrices as the native kernels pack them, in the order of use, each on a page of its own, and
all else in float32. Processes with the same model share its pages, and the system may drop and reread them. Its name
tells what it was made from and by (`provenance`), so one that no longer fits is never opened. Its header names its
source, for whoever looks after such files, and holds sums of what follows (`checksums`) and a digest of its own. It is
written without a name and gets one when it is whole and on the disk: what is interrupted leaves nothing behind. Knows
nothing of plans; a file that cannot be made is None and a reason.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from ..ops.native import native
from ..ops.quantized import Packed
from ..spec import ModelError
from ..weights.files import key_of, native_name
from ..weights.headers import Header, read_header
from ..weights.mapped import believed
from .checksums import BLOCK, Blocks, Summed, identity_of
from .checksums import read as read_sums
from .checksums import written as write_sums
from .options import Progress
from .provenance import Source, name_of

FORMAT = "mlxrun-ready"
SUFFIX = ".ready.safetensors"
HALF = ".making-"  # what a file begins with that could not be made without a name
PAGE = 4096
PLAIN_ALIGN = 64
TENSOR_HEADER, HEADER = 512, 65536  # room for a tensor's entry, for all else
MOST = 64 << 30  # bytes of all such files; the longest unused goes first
SPARE = 1 << 30  # of the disk, to be left free
LEAST = 32 << 20  # a smaller model is packed as fast as it is mapped
NO_DIGEST = b"0" * 64  # stands in the header while its digest is taken

Formed = mx.array | Packed


def file_of(folder: Path, source: Source) -> Path:
    return folder / name_of(source, SUFFIX)


def of_place(folder: Path, place: Path) -> list[Path]:
    """All that was ever made from that model."""
    return sorted(folder.glob(f"{key_of(place)}-*{SUFFIX}"))


# ---- opening ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    weights: dict[str, Formed]  # canonical name -> view into the file
    mapped: Any  # the file itself
    places: dict[str, tuple[int, int]]  # canonical name -> first byte in the file, bytes
    blocks: Blocks  # by which it is checked


def open_ready(file: Path) -> Opened | None:
    """None: there is none, or one that is not as we wrote it, and now gone. OSError: it cannot be mapped."""
    try:
        seen = os.stat(file)
    except FileNotFoundError:
        return None
    try:
        header, blocks = described(file, seen)
        found = _views(file, header, seen.st_size)
    except (ModelError, KeyError, ValueError, TypeError):
        forget(file, seen.st_ino)
        return None
    with suppress(OSError):
        # the longest unused goes first; the other time is how a change is known
        os.utime(file, ns=(time.time_ns(), seen.st_mtime_ns))
    places = {name: (p.start, p.nbytes) for name, p in header.tensors.items() if name in found[1]}
    return Opened(found[1], found[0], places, blocks)


def described(file: Path, seen: os.stat_result) -> tuple[Header, Blocks]:
    """Its header once its digest is right. ModelError, KeyError and ValueError where it is not one of ours."""
    header = read_header(file)
    with file.open("rb") as opened:
        raw = opened.read(int.from_bytes(opened.read(8), "little"))
    told = header.metadata["digest"]
    if len(told) != len(NO_DIGEST) or _digest(raw.replace(told.encode(), NO_DIGEST, 1)) != told:
        raise ModelError(f"{file.name}: its header is not what was written.")
    start = 8 + len(raw)
    return header, Blocks(file, identity_of(seen), start, read_sums(header.metadata["sums"], seen.st_size - start))


def _digest(header: bytes) -> str:
    return hashlib.sha256(header).hexdigest()


def _views(file: Path, header: Header, size: int) -> tuple[Any, dict[str, Formed]]:
    layouts = json.loads(header.metadata["packed"])
    try:
        with native_name(file) as name:
            mapped = native.MappedFile(name, size)
    except RuntimeError as error:
        raise OSError(f"{file.name} cannot be mapped: {error}") from error
    found: dict[str, Formed] = {}
    for name, place in header.tensors.items():
        if name.startswith("~"):
            continue
        if name in layouts:
            mode, bits, layout = layouts[name]
            found[name] = mapped.packed(place.start, mode, bits, layout)
        elif place.dtype == "F32":
            found[name] = mapped.array(place.start, place.shape, mx.float32)
    return mapped, found


def forget(file: Path, inode: int) -> None:
    """Take it away, unless another process has put a good one in its place."""
    with suppress(OSError):
        if os.stat(file).st_ino == inode:
            file.unlink()


# ---- making -------------------------------------------------------------------------------------


def write_ready(
    file: Path, source: Source, weights: Iterable[tuple[str, Formed]], count: int, size: int, done: Progress
) -> str | None:
    """Write it and give it its name; None, or the reason why there is none. `weights` is gone through once, so that
    only one of them need be in memory; `size` is what they will take, `count` how many they are at most."""
    folder = file.parent
    room = HEADER + 2 * TENSOR_HEADER * count + 16 * (1 + size // BLOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        make_room(folder, size, keep=file, stale=[old for old in of_place(folder, source.place) if outdated(old)])
        if shutil.disk_usage(folder).free < size + room + SPARE:
            return f"{folder} lacks room for {size / 1e9:.1f} GB that would make the next start faster"
        with nameless(file) as sink, believed():
            _write(sink, weights, room, size, done, _owner(source))
    except OSError as error:
        return f"{folder} could not be written: {error.strerror or error}"
    return None


def _write(
    file: Any, weights: Iterable[tuple[str, Formed]], room: int, size: int, done: Progress, owner: Mapping[str, Any]
) -> None:
    entries: dict[str, Any] = {}
    layouts: dict[str, Any] = {}
    end = 8 + room
    file.seek(end)
    sink = Summed(file)
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
    metadata = {
        "format": FORMAT,
        "digest": NO_DIGEST.decode(),
        "source": json.dumps(owner),
        "packed": json.dumps(layouts),
        "sums": write_sums(sink.sums()),
    }
    header = json.dumps({"__metadata__": metadata, **entries}).encode().ljust(room)
    if len(header) > room:
        raise OSError(f"its header of {len(header)} bytes is larger than was thought")
    file.seek(0)
    file.write(struct.pack("<Q", room) + header.replace(NO_DIGEST, _digest(header).encode(), 1))


def _owner(source: Source) -> dict[str, Any]:
    """As it was named, so that a person knows it again; links are followed when it is compared."""
    return {
        "place": str(source.place.absolute()),
        "files": [str(file.absolute()) for file in source.files],
        "how": source.how,
    }


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


# ---- looking after ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owner:
    """What a ready file says that it was made from."""

    place: Path
    files: tuple[Path, ...]
    how: str


def owner_of(file: Path) -> Owner | None:
    """None: it says nothing that can be believed."""
    try:
        header, _ = described(file, os.stat(file))
        told = json.loads(header.metadata["source"])
        return Owner(Path(told["place"]), tuple(Path(each) for each in told["files"]), str(told["how"]))
    except (ModelError, OSError, KeyError, ValueError, TypeError):
        return None


def outdated(file: Path) -> str | None:
    """Why it will never be opened again; None: it will, when its model is."""
    owner = owner_of(file)
    if owner is None:
        return "it is damaged, or of another version"
    missing = next((each for each in (owner.place, *owner.files) if not each.exists()), None)
    if missing is not None:
        return f"{missing} is gone"
    try:
        current = name_of(Source(owner.place, owner.files, owner.how), SUFFIX)
    except OSError as error:
        return f"{error.filename} cannot be read"
    return None if current == file.name else f"{owner.place}, or mlxrun, has changed since"
