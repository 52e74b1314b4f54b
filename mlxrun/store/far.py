"""A model of the hub before it is downloaded: its config and the headers of its weights, and nothing else of it.

`outlined` lends a temporary folder in which every file of weights is its own first bytes before a hole of the right
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
from ..weights.gguf import MAX_METADATA, PART, read_start
from ..weights.headers import MAX_HEADER, read_header
from . import hub

CONFIG = "config.json"
FIRST = 1 << 17  # bytes asked for at first; most headers of safetensors are shorter
GROWTH = 8
FAR = MAX_METADATA + FIRST  # the most that is read past where a server ignores ranges
LARGEST = 1 << 46  # bytes of a file that are believed
NEAR = 1 << 16  # values that lie this close together are fetched together
VALUES = (".weight_shape", "g_idx")  # of safetensors: how many bits a packed weight has, and whether it keeps them
MAX_VALUES = 64 << 20
GGUF = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+?(?:@[\w.-]+)?)/(?P<file>[\w./-]+\.gguf)", re.ASCII)


def is_file(name: str) -> bool:
    """org/name[@revision]/file.gguf"""
    return GGUF.fullmatch(name) is not None and ".." not in name


@contextmanager
def outlined(name: str) -> Iterator[Path]:
    """A folder, or a .gguf file in one, that is there as long as the context is."""
    found = GGUF.fullmatch(name)
    repository, wanted = (found["repository"], found["file"]) if found else (name, None)
    with tempfile.TemporaryDirectory(prefix="mlxrun-headers-") as scratch:
        folder = Path(scratch)
        try:
            far = Far(repository)
            place = _gguf(far, folder, wanted) if wanted or not far.has_safetensors else _folder(far, folder)
        except ModelError:  # says all there is to say
            raise
        except hub.broken() as error:
            raise ModelError(hub.reason(name, error, kept="")) from error
        yield place


class Far:
    """The files of one revision of a repository, read by ranges."""

    def __init__(self, name: str) -> None:
        from huggingface_hub import HfApi, constants, errors

        if constants.HF_HUB_OFFLINE:
            raise errors.OfflineModeIsEnabled(name)
        self.name = name
        self._model, _, revision = name.partition("@")
        info = HfApi().model_info(self._model, revision=revision or None, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self._commit = info.sha or revision or hub.MAIN
        self.files = [file.rfilename for file in info.siblings or ()]

    @property
    def has_safetensors(self) -> bool:
        return any(file.endswith(".safetensors") and "/" not in file for file in self.files)

    def read(self, file: str, start: int, stop: int) -> tuple[bytes, int]:
        """(bytes from `start` up to `stop` or the file's end, the file's size)."""
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        asked = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        url = hf_hub_url(self._model, file, revision=self._commit, endpoint=constants.ENDPOINT)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers={**build_hf_headers(), **asked}, timeout=timeout) as answer:
            hf_raise_for_status(answer)
            begins, size = self._extent(file, answer)
            wanted = min(stop, size) - begins
            if not begins <= start or start - begins > FAR:
                raise ModelError(f"The Hugging Face hub does not give parts of {file} of {self.name}; pull it instead.")
            got = bytearray()
            for block in answer.iter_bytes():
                got += block
                if len(got) >= wanted:
                    break
        if len(got) < wanted:
            raise ModelError(f"The Hugging Face hub stopped in the middle of {file} of {self.name}; try again.")
        return bytes(got[start - begins : wanted]), size

    def _extent(self, file: str, answer: Any) -> tuple[int, int]:
        """Where in the file the answer begins, and how large that is."""
        part = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})", answer.headers.get("Content-Range", ""))
        length = answer.headers.get("Content-Length", "")
        if answer.status_code == 206 and part is not None:
            begins, size = int(part[1]), int(part[2])
        elif answer.status_code == 200 and length.isascii() and length[:15].isdigit():
            begins, size = 0, int(length)
        else:
            raise ModelError(f"The Hugging Face hub does not say how large {file} of {self.name} is; try again later.")
        if size > LARGEST:
            raise ModelError(f"The Hugging Face hub says that {file} of {self.name} has {size} bytes: not believable.")
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


def _gguf(far: Far, folder: Path, wanted: str | None) -> Path:
    files = [file for file in far.files if file.endswith(".gguf") and not file.rpartition("/")[2].startswith("mmproj")]
    firsts = [file for file in files if (part := PART.search(file)) is None or int(part[1]) == 1]
    if wanted is None and len(firsts) > 1:
        some = ", ".join(firsts[:6]) + (" ..." if len(firsts) > 6 else "")
        raise ModelError(f"{far.name} holds several models; name one, as {far.name}/{firsts[0]}: {some}.")
    chosen = wanted or (firsts[0] if firsts else None)
    if chosen is None:
        raise ModelError(f"{far.name} holds no model that is read: neither safetensors nor a .gguf file.")
    if chosen not in far.files:
        raise ModelError(f"{far.name} has no file {chosen}.")
    part = PART.search(chosen)
    stem = chosen[: part.start()] if part else chosen
    siblings = [f for f in files if (p := PART.search(f)) and f[: p.start()] == stem] if part else [chosen]
    for file in siblings:
        _part(far, file, folder / file.rpartition("/")[2])
    return folder / chosen.rpartition("/")[2]


def _part(far: Far, file: str, target: Path) -> None:
    """Ask for more until the list of tensors is whole."""
    head, size = far.read(file, 0, FIRST)
    most = min(size, MAX_METADATA)
    while (found := read_start(head, size, target.name)) is None and len(head) < most:
        head += far.read(file, len(head), min(most, GROWTH * len(head)))[0]
    _hole(target, head, size)
    tensors = found.tensors if found is not None else {}
    _values(far, file, target, [(tensors[n].start, tensors[n].nbytes) for n in ROPE_FACTORS if n in tensors])
