"""Models of the Hugging Face hub: the copy in its cache on this machine, or a download into it.

A copy that is whole is used without asking the network. Only the files that we read are fetched.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ..spec import ModelError

ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model*", "merges.txt"]
UNWANTED = ["*/*", "consolidated*"]  # other frameworks' copies, and the authors' own layout of the same weights


def is_id(name: str) -> bool:
    return ID.fullmatch(name) is not None and ".." not in name


def snapshot(name: str) -> Path:
    """The folder of a model named org/name."""
    here = cached(name)
    return here if here is not None and is_whole(here) else _download(name)


def cached(name: str) -> Path | None:
    """The folder of the main revision in the hub's cache, read by its documented layout.

    The hub's library would ask for every file of the repository, also those that nobody fetched.
    """
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    try:
        folder = repository / "snapshots" / (repository / "refs" / "main").read_text().strip()
        return folder if folder.is_dir() else None
    except (OSError, ValueError):
        return None


def is_whole(folder: Path) -> bool:
    """Every file that the weights' index names is there. What is in them, the loader checks."""
    index = folder / "model.safetensors.index.json"
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"*.safetensors"}
        return (folder / "config.json").is_file() and all(any(folder.glob(shard)) for shard in shards)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # a broken index: fetching it anew may mend it
        return False


def on_disk() -> Iterator[tuple[str, Path]]:
    """(name, folder) of every whole model in the hub's cache."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        here = cached(name)
        if here is not None and is_whole(here):
            yield name, here


def _download(name: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    broken = (OSError, ValueError, RuntimeError, errors.HTTPError, errors.XetDownloadError)

    print(f"Fetching {name} from the Hugging Face hub ...", file=sys.stderr, flush=True)
    try:
        return Path(snapshot_download(name, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except errors.GatedRepoError as error:
        reason = "its authors ask you to accept their terms on its page, and to log in with 'hf auth login'"
        raise ModelError(f"{name} cannot be fetched: {reason}.") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"The Hugging Face hub has no model {name}, or you may not see it.") from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(f"{name} is not on this machine, and the Hugging Face hub could not be reached.") from error
    except broken as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"{name} could not be fetched from the Hugging Face hub: {first}.") from error
