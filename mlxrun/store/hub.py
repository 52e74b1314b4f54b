"""Models of the Hugging Face hub: the copy in its cache on this machine, or a download into it.

A copy that is whole is used without asking the network. Only the files that we read are fetched.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from socket import gaierror

from ..memory.disk import FULL
from ..spec import ModelError, one_line

WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model*", "merges.txt"]
UNWANTED = ["*/*", "consolidated*"]  # other frameworks' copies, and the authors' own layout of the same weights
READABLE = {"safetensors", "gguf"}  # as the hub tags what it found in a repository
MAIN = "main"
NOT_REACHED = ("ConnectError", "ConnectTimeout")  # of httpx, which the hub's library brings
GOES_ON = "What arrived whole is kept."
LARGEST = 1 << 46  # bytes of a file that are believed
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Listing:
    """What one revision of a repository holds."""

    name: str  # org/name[@revision], as it was asked for
    commit: str
    sizes: Mapping[str, int | None]  # bytes of every file; None: the hub does not say
    digests: Mapping[str, str]  # SHA-256 of the large ones

    @property
    def model(self) -> str:
        return self.name.partition("@")[0]

    @property
    def wanted(self) -> tuple[str, ...]:
        """What is fetched of a whole one."""
        found = (file for file in self.sizes if any(fnmatch(file, pattern) for pattern in WANTED))
        return tuple(file for file in found if not any(fnmatch(file, pattern) for pattern in UNWANTED))

    @property
    def has_safetensors(self) -> bool:
        return any(file.endswith(".safetensors") and "/" not in file for file in self.sizes)


def listing(name: str) -> Listing:
    """Asks the hub; raises what its library raises."""
    from huggingface_hub import HfApi, constants, errors

    if constants.HF_HUB_OFFLINE:
        raise errors.OfflineModeIsEnabled(name)
    model, _, revision = name.partition("@")
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    info = HfApi().model_info(model, revision=revision or None, timeout=timeout, files_metadata=True)
    sizes: dict[str, int | None] = {}
    digests: dict[str, str] = {}
    for file in info.siblings or ():
        size = file.size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LARGEST):
            raise ModelError(f"The Hugging Face hub says that {file.rfilename} of {name} has {size} bytes.")
        sizes[file.rfilename] = size
        digest = file.lfs.sha256 if file.lfs is not None else None
        if isinstance(digest, str) and SHA256.fullmatch(digest):
            digests[file.rfilename] = digest
    return Listing(name, info.sha or revision or MAIN, sizes, digests)


def search(words: str, most: int = 40) -> list[tuple[str, int]]:
    """(org/name, how often it was fetched in the last thirty days) of models that have weights in a form that is read
    here, the most fetched first."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ModelError("HF_HUB_OFFLINE forbids asking the Hugging Face hub.")
    try:
        listed = list(HfApi().list_models(search=words, sort="downloads", limit=most))
    except broken() as error:
        raise ModelError(reason(words, error, kept="")) from error
    readable = (one for one in listed if READABLE & set(one.tags or ()))
    return [(one.id, max(0, one.downloads or 0)) for one in readable]


def snapshot(name: str) -> Path:
    """The folder of a model named org/name[@revision]."""
    here = cached(name)
    return here if here is not None and is_whole(here) else _download(name)


def cached(name: str) -> Path | None:
    """The folder of that revision in the hub's cache, read by its documented layout.

    The hub's library would ask for every file of the repository, also those that nobody fetched.
    """
    _, _, revision = name.partition("@")
    repository = held(name)
    try:
        ref = repository / "refs" / (revision or MAIN)
        folder = repository / "snapshots" / (ref.read_text().strip() if ref.is_file() else revision or "-")
        return folder if folder.is_dir() else None
    except (OSError, ValueError):
        return None


def held(name: str) -> Path:
    """Where the hub's cache keeps all revisions of org/name[@revision], whether there are any or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{name.partition('@')[0].replace('/', '--')}"


def snapshot_of(place: Path) -> Path | None:
    """The snapshot that this is, or lies in."""
    from huggingface_hub import constants

    for folder in (place, *place.parents):
        repository = folder.parent.parent
        if folder.parent.name == "snapshots" and repository.parent == Path(constants.HF_HUB_CACHE):
            return folder if repository.name.startswith("models--") else None
    return None


def repository_of(place: Path) -> Path | None:
    """All that the hub's cache holds of the model whose snapshot, or a file of whose snapshot, this is; or itself."""
    from huggingface_hub import constants

    if place.name.startswith("models--") and place.parent == Path(constants.HF_HUB_CACHE):
        return place
    snapshot = snapshot_of(place)
    return None if snapshot is None else snapshot.parent.parent


def is_whole(folder: Path) -> bool:
    """Every file that the weights' index names is there. What is in them, the loader checks."""
    index = folder / "model.safetensors.index.json"
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"*.safetensors"}
        return (folder / "config.json").is_file() and all(any(folder.glob(shard)) for shard in shards)
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        RecursionError,
    ):  # fetching a broken index anew may mend it
        return False


def on_disk() -> Iterator[tuple[str, Path]]:
    """(org/name, snapshot) of every repository in the hub's cache, whatever of it is there."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        here = cached(name)
        if here is not None:
            yield name, here


def _download(name: str) -> Path:
    """Files that arrived whole are kept, so a pull that stopped goes on with the others; two at once harm nobody."""
    from huggingface_hub import constants, snapshot_download

    model, _, revision = name.partition("@")
    print(f"Fetching {one_line(name)} from the Hugging Face hub ...", file=sys.stderr, flush=True)
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
    if any(_is_full(cause) for cause in _causes(error)):
        return f"The disk is full: free some room in {constants.HF_HUB_CACHE}, then fetch {name} again. {kept}".rstrip()
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"{name} is not on this machine, and the Hugging Face hub could not be reached."
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if any(isinstance(e, gaierror) or type(e).__name__ in NOT_REACHED for e in _causes(error)):
        return f"{name} is not on this machine, and the Hugging Face hub could not be reached: {first}. {kept}".rstrip()
    return f"{name} could not be fetched from the Hugging Face hub: {first}. {kept}".rstrip()


def _is_full(error: BaseException) -> bool:
    """The library's own transfers tell it in words only."""
    return (isinstance(error, OSError) and error.errno in FULL) or "no space left on device" in str(error).lower()


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
