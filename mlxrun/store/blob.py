"""One large file of the hub into its cache, going on where an earlier try stopped, and checked when it is whole.

The hub's own library begins anew with every try, and a GGUF file is often all of a model. What has arrived lies beside
the hub's blobs under a name that its library does not know; the blob gets its own name when its digest is right.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..spec import ModelError, one_line
from . import hub

UNFINISHED = ".mlxrun-part"
BLOCK = 8 << 20


def arrive(listing: hub.Listing, file: str) -> None:
    """Afterwards the hub's library finds it there. Raises what that library raises."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    digest, size = listing.digests.get(file), listing.sizes.get(file)
    if digest is None or size is None or size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        return  # too small to matter, or so large that only the library's own way leads there
    target = hub.held(listing.name) / "blobs" / digest
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(digest + UNFINISHED)
    with alone(part) as sink:
        if target.exists():
            part.unlink(missing_ok=True)
            return
        done = sink.seek(0, os.SEEK_END)
        if done > size:
            done = sink.truncate(0)
            sink.seek(0)
        url = hf_hub_url(listing.model, file, revision=listing.commit, endpoint=constants.ENDPOINT)
        name = one_line(file.rpartition("/")[2])
        http_get(url, sink, resume_size=done, headers=build_hf_headers(), expected_size=size, displayed_filename=name)
        sink.flush()
        if digest_of(sink) != digest:
            part.unlink()
            raise ModelError(f"{file} of {listing.name} did not arrive as the hub has it; fetch it again.")
        os.fsync(sink.fileno())
        os.replace(part, target)


def remaining(listing: hub.Listing, files: tuple[str, ...]) -> int:
    """Bytes that are still to come, as far as the hub says how large they are."""
    blobs, found = hub.held(listing.name) / "blobs", 0
    for file in files:
        digest = listing.digests.get(file, "-")
        if not (blobs / digest).exists():
            part = blobs / (digest + UNFINISHED)
            found += max(0, (listing.sizes[file] or 0) - (part.stat().st_size if part.exists() else 0))
    return found


@contextmanager
def alone(part: Path) -> Iterator[BinaryIO]:
    """The file, for reading and writing, once nobody else has it; the one of that name, not one that was taken away."""
    while True:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as sink:
            fcntl.flock(sink, fcntl.LOCK_EX)
            mine = os.fstat(sink.fileno())
            try:
                there = part.stat()
            except FileNotFoundError:
                continue
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                yield sink
                return


def digest_of(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()
