"""A model of the hub before it is downloaded: its config and the headers of its weights, and nothing else of it.

Both outlines lend a temporary folder in which every file of weights is its own first bytes before a hole of the right
size, so whoever plans from headers plans as if the model were here. Values must not be read there; those few that
decide a form or a rope are fetched too. Ranges are asked for; a server that ignores them is left once it has said
enough. Endpoint, token and offline rules are those of huggingface_hub.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..spec import ModelError
from ..weights.checkpoint import INDEX, MAX_CONFIG, MAX_INDEX, ROPE_FACTORS
from ..weights.files import parse_object
from ..weights.gguf import MAX_METADATA, read_start
from ..weights.headers import MAX_HEADER, read_header
from . import hub
from .ggufs import Offer

CONFIG = "config.json"
FIRST = 1 << 17  # bytes asked for at first; most headers of safetensors are shorter
GROWTH = 8
FAR = MAX_METADATA + FIRST  # the most that is read past where a server ignores ranges
SCRATCH = "mlxrun-headers-"
NEAR = 1 << 16  # values that lie this close together are fetched together
VALUES = (".weight_shape", "g_idx")  # of safetensors: how many bits a packed weight has, and whether it keeps them
MAX_VALUES = 64 << 20


@contextmanager
def outline_of_folder(listing: hub.Listing) -> Iterator[Path]:
    """The config and the safetensors."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as scratch:
        with _reasons(listing.name):
            _folder(Far(listing), Path(scratch))
        yield Path(scratch)


@contextmanager
def outline_of_gguf(listing: hub.Listing, offer: Offer) -> Iterator[Path]:
    """One GGUF file, or all parts of one."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as scratch:
        places = [Path(scratch) / file.rpartition("/")[2] for file in offer.files]
        with _reasons(listing.name):
            for file, place in zip(offer.files, places, strict=True):
                _part(Far(listing), file, place)
        yield places[0]


@contextmanager
def outline_of_file(far: Far, file: str) -> Iterator[Path]:
    """One GGUF file, wherever it lies."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as scratch:
        place = Path(scratch) / f"{file}.gguf"
        _part(far, file, place)
        yield place


@contextmanager
def _reasons(name: str) -> Iterator[None]:
    try:
        yield
    except ModelError:  # says all there is to say
        raise
    except hub.broken() as error:
        raise ModelError(hub.reason(name, error, kept="")) from error


class Far:
    """The files of one revision of a repository, read by ranges."""

    whose = "The Hugging Face hub"

    def __init__(self, listing: hub.Listing) -> None:
        self.name, self._model, self._commit = listing.name, listing.model, listing.commit
        self.files = list(listing.sizes)

    def read(self, file: str, start: int, stop: int) -> tuple[bytes, int]:
        """(bytes from `start` up to `stop` or the file's end, the file's size)."""
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session, hf_raise_for_status

        asked = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        url, headers = self._address(file)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers={**headers, **asked}, timeout=timeout) as answer:
            hf_raise_for_status(answer)
            begins, size = self._extent(file, answer)
            wanted = min(stop, size) - begins
            if not begins <= start or start - begins > FAR:
                raise ModelError(f"{self.whose} does not give parts of {file} of {self.name}; pull it instead.")
            got = bytearray()
            for block in answer.iter_bytes():
                got += block
                if len(got) >= wanted:
                    break
        if len(got) < wanted:
            raise ModelError(f"{self.whose} stopped in the middle of {file} of {self.name}; try again.")
        return bytes(got[start - begins : wanted]), size

    def _address(self, file: str) -> tuple[str, dict[str, str]]:
        """And what lets one in there."""
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self._model, file, revision=self._commit, endpoint=constants.ENDPOINT)
        return url, build_hf_headers()

    def _extent(self, file: str, answer: Any) -> tuple[int, int]:
        """Where in the file the answer begins, and how large that is."""
        part = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})", answer.headers.get("Content-Range", ""))
        length = answer.headers.get("Content-Length", "")
        if answer.status_code == 206 and part is not None:
            begins, size = int(part[1]), int(part[2])
        elif answer.status_code == 200 and length.isascii() and length[:15].isdigit():
            begins, size = 0, int(length)
        else:
            raise ModelError(f"{self.whose} does not say how large {file} of {self.name} is; try again later.")
        if size > hub.LARGEST:
            raise ModelError(f"{self.whose} says that {file} of {self.name} has {size} bytes: not believable.")
        return begins, size

    def whole(self, file: str, limit: int) -> bytes:
        raw, size = self.read(file, 0, limit)
        if size > limit:
            raise ModelError(f"{file} of {self.name} has {size} bytes; more than {limit} is not believable.")
        return raw


def _hole(target: Path, head: bytes, size: int) -> None:
    with target.open("wb") as file:
        file.write(head)
        file.truncate(size)


def _values(far: Far, name: str, target: Path, places: Sequence[tuple[int, int]]) -> None:
    """Fetch what lies at each (start, bytes) into the hole; neighbours together."""
    spans: list[list[int]] = []
    for start, nbytes in sorted(places):
        if spans and start - spans[-1][1] <= NEAR:
            spans[-1][1] = start + nbytes
        else:
            spans.append([start, start + nbytes])
    if sum(stop - start for start, stop in spans) > MAX_VALUES:
        raise ModelError(f"{name} of {far.name} hides too much of its shapes among its values; pull it, then plan.")
    with target.open("r+b") as file:
        for start, stop in spans:
            file.seek(start)
            file.write(far.read(name, start, stop)[0])


# ---- safetensors --------------------------------------------------------------------------------


def _folder(far: Far, folder: Path) -> Path:
    if CONFIG not in far.files:
        raise ModelError(f"{far.name} has no {CONFIG}, so nobody knows what its weights are.")
    (folder / CONFIG).write_bytes(far.whole(CONFIG, MAX_CONFIG))
    plain = sorted(file for file in far.files if file.endswith(".safetensors") and "/" not in file)
    if INDEX in far.files:
        raw = far.whole(INDEX, MAX_INDEX)
        (folder / INDEX).write_bytes(raw)
        named = parse_object(raw, INDEX).get("weight_map")
        told = {str(file) for file in named.values()} if isinstance(named, dict) else set()
        plain = [file for file in plain if file in told]
    elif "model.safetensors" in plain:
        plain = ["model.safetensors"]
    else:
        plain = [file for file in plain if file.startswith("model")]
        if not plain:
            raise ModelError(f"{far.name} has no model.safetensors.")
    for file in plain:
        _shard(far, file, folder / file)
    return folder


def _shard(far: Far, file: str, target: Path) -> None:
    head, size = far.read(file, 0, FIRST)
    end = 8 + int.from_bytes(head[:8], "little")
    if len(head) < end <= min(size, 8 + MAX_HEADER):  # else it is short enough, or not to be believed
        head += far.read(file, len(head), end)[0]
    _hole(target, head[:end] if end <= len(head) else head, size)
    tensors = read_header(target).tensors
    _values(far, file, target, [(t.start, t.nbytes) for name, t in tensors.items() if name.endswith(VALUES)])


# ---- GGUF ---------------------------------------------------------------------------------------


def _part(far: Far, file: str, target: Path) -> None:
    """Ask for more until the list of tensors is whole."""
    head, size = far.read(file, 0, FIRST)
    most = min(size, MAX_METADATA)
    while (found := read_start(head, size, target.name)) is None and len(head) < most:
        head += far.read(file, len(head), min(most, GROWTH * len(head)))[0]
    _hole(target, head, size)
    tensors = found.tensors if found is not None else {}
    _values(far, file, target, [(tensors[n].start, tensors[n].nbytes) for n in ROPE_FACTORS if n in tensors])
