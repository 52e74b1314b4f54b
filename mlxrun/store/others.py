"""Models that other programs have put on this machine: LM Studio's folders and Ollama's, where they are found.

LM Studio keeps folders like anyone's. Ollama keeps blobs named by their sum, and manifests that say which of them is a
model; what is not named exactly so is passed over. Nothing is opened but manifests, and nothing is written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from .folder import listed, models_in

LM_STUDIO = (".lmstudio/models", ".cache/lm-studio/models")  # today's, and that of older versions
OLLAMA = "OLLAMA_MODELS"  # the variable by which Ollama's folder is moved
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
MODEL = "application/vnd.ollama.image.model"
REGISTRY, LIBRARY = "registry.ollama.ai", "library"
MOST_MANIFEST = 1 << 20  # bytes; Ollama's have about a thousand


def models_of_others(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> Iterator[tuple[str, Path]]:
    """(name, place), the names as those programs have them."""
    home = Path.home() if home is None else home
    for folder in LM_STUDIO:
        yield from models_in(home / folder).items()
    moved = environ.get(OLLAMA, "")
    yield from ollama_models(Path(moved) if os.path.isabs(moved) else home / ".ollama" / "models")


def ollama_models(folder: Path) -> Iterator[tuple[str, Path]]:
    """NAME:TAG of Ollama's own library, OWNER/NAME:TAG, HOST/OWNER/NAME:TAG."""
    for host in listed(folder / "manifests"):
        for owner in listed(host):
            for model in listed(owner):
                for manifest in listed(model):
                    blob = model_blob(manifest)
                    place = None if blob is None else folder / "blobs" / blob
                    if place is not None and place.is_file():
                        yield f"{owned(host.name, owner.name)}{model.name}:{manifest.name}", place


def owned(host: str, owner: str) -> str:
    if host != REGISTRY:
        return f"{host}/{owner}/"
    return "" if owner == LIBRARY else f"{owner}/"


def model_blob(manifest: Path) -> str | None:
    """The name of the file that holds the weights; None: this is no manifest of a model."""
    try:
        if manifest.stat().st_size > MOST_MANIFEST:
            return None
        layers = json.loads(manifest.read_text("utf-8"))["layers"]
        found = [DIGEST.fullmatch(layer["digest"]) for layer in layers if layer["mediaType"] == MODEL]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return f"sha256-{found[0][1]}" if len(found) == 1 and found[0] is not None else None
