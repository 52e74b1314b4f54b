"""Models of Ollama's registry: `ollama:NAME[:TAG]` and `ollama:OWNER/NAME[:TAG]`.

A registry of the OCI kind: a manifest names its layers by their SHA-256, and the one with the weights is a GGUF file.
It goes into mlxrun's own folder, goes on where an earlier try stopped, and has its name only once its sum is right.
Template and parameters of the manifest are left where they are: a GGUF file has its own.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..memory.disk import free_in
from ..settings import Settings
from ..spec import ModelError, one_line
from . import blob, far, hub
from .others import DIGEST, LIBRARY, MODEL, MOST_MANIFEST

PREFIX = "ollama:"
ADDRESS = "MLXRUN_OLLAMA_REGISTRY"  # the variable that names another registry
USUAL = "https://registry.ollama.ai"
NAME = re.compile(r"(?:(?P<owner>[\w][\w.-]*)/)?(?P<model>[\w][\w.-]*)(?::(?P<tag>[\w][\w.-]*))?", re.ASCII)
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SPARE = 1 << 30  # bytes of the disk that are left to others
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Registered:
    """A model of the registry."""

    owner: str
    model: str
    tag: str

    def __str__(self) -> str:
        owner = "" if self.owner == LIBRARY else f"{self.owner}/"
        return f"{PREFIX}{owner}{self.model}:{self.tag}"

    def place(self, settings: Settings) -> Path:
        return settings.models / f"{'' if self.owner == LIBRARY else self.owner + '--'}{self.model}--{self.tag}.gguf"

    @property
    def address(self) -> str:
        return f"{os.environ.get(ADDRESS) or USUAL}/v2/{self.owner}/{self.model}"


@dataclass(frozen=True, slots=True)
class WeightsLayer:
    digest: str
    size: int


def parse(text: str) -> Registered | None:
    """None: it is no such name. A ModelError: it was meant to be one."""
    if not text.startswith(PREFIX):
        return None
    found = NAME.fullmatch(text.removeprefix(PREFIX))
    if found is None or ".." in text:
        raise ModelError(f"{text!r} is no name of Ollama's registry; one looks like ollama:qwen3:4b.")
    return Registered(found["owner"] or LIBRARY, found["model"], found["tag"] or "latest")


def here(name: Registered, settings: Settings) -> Path | None:
    place = name.place(settings)
    return place if place.is_file() else None


def fetch(name: Registered, settings: Settings) -> Path:
    found = here(name, settings)
    if found is not None:
        return found
    target = name.place(settings)
    with told(name):
        arrive(name, weights_of(name), target)
    return target


@contextmanager
def outline(name: Registered) -> Iterator[Path]:
    """Its headers, where they can be read; nothing else of it is fetched."""
    with told(name):
        weights = weights_of(name)
        with far.outline_of_file(FarBlob(name), weights.digest) as place:
            yield place


class FarBlob(far.Far):
    """Blobs by their sums."""

    whose = "Ollama's registry"

    def __init__(self, name: Registered) -> None:
        self.name, self.files, self._from = str(name), [], name

    def _address(self, file: str) -> tuple[str, dict[str, str]]:
        return f"{self._from.address}/blobs/sha256:{file}", {}


@contextmanager
def told(name: Registered) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except hub.broken() as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 404:
            raise ModelError(f"Ollama's registry has no {name}.") from error
        why = f"status {status}" if status else " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{name} could not be fetched from Ollama's registry ({why}); try again.") from error


def weights_of(name: Registered) -> WeightsLayer:
    """By its manifest."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session, hf_raise_for_status

    url, raw = f"{name.address}/manifests/{name.tag}", bytearray()
    asked = {"Accept": MANIFEST, "Accept-Encoding": "identity"}
    with get_session().stream("GET", url, headers=asked, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
        hf_raise_for_status(answer)
        for part in answer.iter_bytes():
            raw += part
            if len(raw) > MOST_MANIFEST:
                raise ModelError(f"The manifest of {name} is too large to be believed.")
    try:
        layers: list[Any] = [layer for layer in json.loads(raw)["layers"] if layer["mediaType"] == MODEL]
        found = [(DIGEST.fullmatch(layer["digest"]), layer["size"]) for layer in layers]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"What Ollama's registry says of {name} is no manifest.") from error
    good = [WeightsLayer(digest[1], size) for digest, size in found if digest and isinstance(size, int)]
    if len(good) != 1 or len(found) != 1 or not 0 < good[0].size <= hub.LARGEST:
        raise ModelError(f"{name} has {len(found)} files of weights in Ollama's registry; one is understood here.")
    return good[0]


def arrive(name: Registered, weights: WeightsLayer, target: Path) -> None:
    from huggingface_hub.file_download import http_get

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{weights.digest}{blob.UNFINISHED}"
    with blob.alone(part) as sink:
        if target.exists():
            part.unlink(missing_ok=True)
            return
        done = sink.seek(0, os.SEEK_END)
        if done > weights.size:
            done = sink.truncate(0)
            sink.seek(0)
        room, coming = free_in(target.parent), weights.size - done
        if coming + SPARE > room:
            needs, has = coming / GIB, room / GIB
            raise ModelError(f"{name} takes {needs:.1f} GiB more, and {has:.1f} GiB of the disk are free: free some.")
        say = f"Fetching {name} ({coming / 1e9:.2f} GB to come) from Ollama's registry ..."
        print(one_line(say), file=sys.stderr, flush=True)
        url = f"{name.address}/blobs/sha256:{weights.digest}"
        if coming:
            http_get(url, sink, resume_size=done, headers={}, expected_size=weights.size, displayed_filename=str(name))
        sink.flush()
        if blob.digest_of(sink) != weights.digest:
            part.unlink()
            raise ModelError(f"{name} did not arrive as Ollama's registry has it; fetch it again.")
        os.fsync(sink.fileno())
        os.replace(part, target)
