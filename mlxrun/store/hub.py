"""Models of the Hugging Face hub: the copy in its cache on this machine, or a download into it.

A copy that is whole is used without asking the network. Only the files that we read are fetched.
"""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ..spec import ModelError

ID = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w.-]+)?", re.ASCII)
WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model*", "merges.txt"]
UNWANTED = ["*/*", "consolidated*"]  # other frameworks' copies, and the authors' own layout of the same weights
MAIN = "main"
GOES_ON = "What arrived whole is kept."


def is_id(name: str) -> bool:
    """org/name, or org/name@revision."""
    return ID.fullmatch(name) is not None and ".." not in name


def snapshot(name: str) -> Path:
    """The folder of a model named org/name[@revision]."""
    here = cached(name)
    return here if here is not None and is_whole(here) else _download(name)


def cached(name: str) -> Path | None:
    """The folder of that revision in the hub's cache, read by its documented layout.

    The hub's library would ask for every file of the repository, also those that nobody fetched.
    """
    from huggingface_hub import constants

    model, _, revision = name.partition("@")
    repository = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    try:
        ref = repository / "refs" / (revision or MAIN)
        folder = repository / "snapshots" / (ref.read_text().strip() if ref.is_file() else revision or "-")
        return folder if folder.is_dir() else None
    except (OSError, ValueError):
        return None


def repository_of(place: Path) -> Path | None:
    """All that the hub's cache holds of the model whose snapshot this is."""
    from huggingface_hub import constants

    snapshots, repository = place.parent, place.parent.parent
    inside = snapshots.name == "snapshots" and repository.name.startswith("models--")
    return repository if inside and repository.parent == Path(constants.HF_HUB_CACHE) else None


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
    """Files that arrived whole are kept, so a pull that stopped goes on with the others; two at once harm nobody."""
    from huggingface_hub import constants, snapshot_download

    model, _, revision = name.partition("@")
    print(f"Fetching {name} from the Hugging Face hub ...", file=sys.stderr, flush=True)
    try:
        return Path(
            snapshot_download(
                model,
                revision=revision or None,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                cache_dir=constants.HF_HUB_CACHE,
            )
        )
    except broken() as error:
        raise ModelError(reason(name, error)) from error


def broken() -> tuple[type[Exception], ...]:
    """What the hub's library raises."""
    from huggingface_hub import errors

    return (OSError, ValueError, RuntimeError, errors.HTTPError, errors.XetDownloadError)


def reason(name: str, error: Exception, kept: str = GOES_ON) -> str:
    """One sentence; `kept` is added where something may have arrived."""
    from huggingface_hub import constants, errors

    status = _status(error)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        terms = "its authors ask you to accept their terms on its page, and to log in with 'hf auth login'"
        return f"{name} cannot be fetched: {terms}."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name.partition('@')[0]} has no revision {name.partition('@')[2] or MAIN}."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"The Hugging Face hub has no model {name}, or you may not see it."
    if status == 401:
        return f"The Hugging Face hub does not accept your token for {name}; log in again with 'hf auth login'."
    if status == 429:
        return f"The Hugging Face hub has had too many requests from here; wait some minutes, then fetch {name} again."
    if status is not None and status >= 500:
        return f"The Hugging Face hub is out of order (status {status}); fetch {name} again later."
    if constants.HF_HUB_OFFLINE:
        return f"{name} is not on this machine, and HF_HUB_OFFLINE forbids asking for it."
    full = next((e for e in _causes(error) if isinstance(e, OSError) and e.errno == errno.ENOSPC), None)
    if full is not None:
        return f"The disk is full: free some room in {constants.HF_HUB_CACHE}, then fetch {name} again. {kept}".rstrip()
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"{name} is not on this machine, and the Hugging Face hub could not be reached."
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"{name} could not be fetched from the Hugging Face hub: {first}. {kept}".rstrip()


def _status(error: BaseException) -> int | None:
    """Of the answer that is at the bottom of this."""
    for cause in _causes(error):
        found = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(found, int):
            return found
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
