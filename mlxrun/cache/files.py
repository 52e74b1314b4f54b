"""One segment of a prefix on disk: some pages in a row, and the states that were kept among them.

    magic, version, length and CRC of the header   24 bytes
    header    JSON: whose it is, after which segment it comes, its tokens, which pages and states follow, a CRC of each
    pages     by number, then by group; then the states

A file is data of whoever could write it: every number is checked before it is used, and a file that is anything but
what its header says is refused with a reason. It gets its name when all of it is on the disk.
"""

from __future__ import annotations

import json
import os
import struct
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, chain
from pathlib import Path
from typing import Any
from zlib import crc32

from .siblings import WORD, Key

MAGIC, VERSION = b"mlxrunPG", 1
START = struct.Struct("<8sIQI")
LONGEST = 1 << 26  # bytes of a header
SUFFIX, HALF = ".pages", ".half"


Wanted = tuple[int, int | None]  # a page's number in the segment and its group; or a state's length, and None


class BadSegment(Exception):
    """Why a file is not what it should be, in some words."""


@dataclass(frozen=True, slots=True)
class PageLayout:
    """What makes pages of two processes the same: the model, its keys' form, and how they lie in a page."""

    fingerprint: str  # of the model and of how it computes, hexadecimal
    size: int  # positions a page
    block: int  # pages a segment, if it is not the last
    groups: tuple[tuple[str, int], ...]  # name, bytes of a page


@dataclass(frozen=True, slots=True)
class DiskSegment:
    layout: PageLayout
    root: str  # whom it is for
    parent: str  # name of the segment before; "" at the beginning
    begun: int  # tokens before
    tokens: Key
    pages: tuple[tuple[bool, ...], ...]  # by page: which groups have it
    states: tuple[tuple[int, int], ...] = ()  # after so many tokens of the sequence, bytes

    @property
    def name(self) -> str:
        return chain_hash(self.root, self.parent, self.tokens)

    @property
    def end(self) -> int:
        return self.begun + len(self.tokens) // WORD

    @property
    def sizes(self) -> list[int]:
        """Bytes of what follows the header, in order."""
        widths = [width for _, width in self.layout.groups]
        pages = [width for held in self.pages for width, there in zip(widths, held, strict=True) if there]
        return pages + [size for _, size in self.states]

    def place(self, wanted: Wanted) -> int:
        """Which of what follows the header that is."""
        at, group = wanted
        if group is None:
            return sum(map(sum, self.pages)) + [length for length, _ in self.states].index(at)
        if not self.pages[at][group]:
            raise ValueError("that page is not here")
        return sum(map(sum, self.pages[:at])) + sum(self.pages[at][:group])

    def covers(self, other: DiskSegment) -> bool:
        """Whether it has all that the other has, of the same tokens."""
        mine, its = chain.from_iterable(self.pages), chain.from_iterable(other.pages)
        return set(self.states) >= set(other.states) and all(
            here or not there for here, there in zip(mine, its, strict=True)
        )


def chain_hash(*parts: str | bytes) -> str:
    made = blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        made.update(len(data).to_bytes(8, "little") + data)
    return made.hexdigest()


def whole(segment: DiskSegment, parts: Sequence[bytes]) -> list[bytes]:
    """All that its file holds, in order."""
    if [len(part) for part in parts] != segment.sizes:
        raise ValueError("A segment's parts have other sizes than its header says.")
    header = json.dumps(_described(segment, [crc32(part) for part in parts])).encode()
    return [START.pack(MAGIC, VERSION, len(header), crc32(header)), header, *parts]


def write_file(folder: Path, name: str, content: Sequence[bytes]) -> None:
    """Only its owner may read it, and it is there wholly or not at all."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    half = f"{name}{HALF}"
    try:
        with os.fdopen(_created(half, place), "wb") as sink:
            for part in content:
                sink.write(part)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(half, f"{name}{SUFFIX}", src_dir_fd=place, dst_dir_fd=place)
        os.fsync(place)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(half, dir_fd=place)
        os.close(place)


def read_header(file: Path, layout: PageLayout) -> DiskSegment:
    """OSError or BadSegment: it cannot be used."""
    with _opened(file) as source:
        return _header(source, file, layout)[0]


def read_parts(file: Path, segment: DiskSegment, wanted: Sequence[Wanted]) -> list[bytes]:
    """Those of what follows the header; each is what was written, or BadSegment.

    The file may be one that was written since in the place of `segment`, and has more.
    """
    with _opened(file) as source:
        found, start, sums = _header(source, file, segment.layout)
        sizes = found.sizes
        starts = list(accumulate(sizes, initial=start))
        parts = []
        for one in wanted:
            try:
                place = found.place(one)
            except (ValueError, IndexError):
                raise BadSegment("it was exchanged for one that lacks something") from None
            source.seek(starts[place])
            part = source.read(sizes[place])
            if len(part) != sizes[place]:
                raise BadSegment("it was cut off")
            if crc32(part) != sums[place]:
                raise BadSegment("a checksum is wrong")
            parts.append(part)
        return parts


def _created(name: str, place: int) -> int:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=place)
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=place)


def _opened(file: Path) -> Any:
    return os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _described(segment: DiskSegment, sums: list[int]) -> dict[str, Any]:
    return {
        "fingerprint": segment.layout.fingerprint,
        "size": segment.layout.size,
        "block": segment.layout.block,
        "groups": segment.layout.groups,
        "root": segment.root,
        "parent": segment.parent,
        "begun": segment.begun,
        "tokens": array("i", segment.tokens).tolist(),
        "pages": segment.pages,
        "states": segment.states,
        "sums": sums,
    }


def _header(source: Any, file: Path, layout: PageLayout) -> tuple[DiskSegment, int, list[int]]:
    """The segment, where its parts begin, and their checksums."""
    start = source.read(START.size)
    if len(start) < START.size:
        raise BadSegment("it was cut off")
    magic, version, length, checksum = START.unpack(start)
    if magic != MAGIC:
        raise BadSegment("it is no segment of ours")
    if version != VERSION:
        raise BadSegment(f"it is of version {version}, and this is {VERSION}")
    held = os.fstat(source.fileno()).st_size
    if length > min(LONGEST, held):
        raise BadSegment("it was cut off, or its header is absurdly long")
    header = source.read(length)
    if len(header) != length or crc32(header) != checksum:
        raise BadSegment("the checksum of its header is wrong")
    segment, sums = _described_by(header, layout)
    if held != START.size + length + sum(segment.sizes) or len(sums) != len(segment.sizes):
        raise BadSegment("it has not the length that its header says")
    if file.name != f"{segment.name}{SUFFIX}":
        raise BadSegment("its name is not that of what it holds")
    return segment, START.size + length, sums


def _described_by(header: bytes, layout: PageLayout) -> tuple[DiskSegment, list[int]]:
    try:
        said = json.loads(header)
        groups = tuple((name, width) for name, width in said["groups"])
        theirs = PageLayout(said["fingerprint"], said["size"], said["block"], groups)
        tokens = array("i", said["tokens"]).tobytes()
        pages = tuple(tuple(map(bool, held)) for held in said["pages"])
        states = tuple((int(length), int(size)) for length, size in said["states"])
        segment = DiskSegment(theirs, str(said["root"]), str(said["parent"]), int(said["begun"]), tokens, pages, states)
        sums = [int(checksum) for checksum in said["sums"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise BadSegment("its header is not understood") from None
    if theirs != layout:
        raise BadSegment("it is of another model, or of another form of its keys")
    if not _possible(segment):
        raise BadSegment("its header contradicts itself")
    return segment, sums


def _possible(segment: DiskSegment) -> bool:
    size, count = segment.layout.size, len(segment.tokens) // WORD
    return (
        count > 0
        and segment.begun >= 0
        and segment.begun % (size * segment.layout.block) == 0
        and bool(segment.parent) == bool(segment.begun)
        and len(segment.pages) == -(-count // size) <= segment.layout.block
        and all(len(held) == len(segment.layout.groups) for held in segment.pages)
        and all(segment.begun < length <= segment.end and size >= 0 for length, size in segment.states)
        and len({length for length, _ in segment.states}) == len(segment.states)
    )
