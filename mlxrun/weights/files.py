"""Opening what a model folder holds: regular files only, inside the folder, of a bounded size.

Every refusal is one sentence that names the file. Knows nothing of what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..spec import ModelError, shown


@contextmanager
def native_name(path: Path) -> Iterator[str]:
    """How C++ finds the file, which takes names as UTF-8: by a descriptor where its name's bytes are another text."""
    if str(path).encode("utf-8", "replace") == os.fsencode(path):
        yield str(path)
        return
    with path.open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def size_of(path: Path) -> int:
    """The size of a regular file; a pipe or a device would block whoever opens it."""
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path.name} is not in {path.parent}.") from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"{path.name} is not a regular file.")
    return found.st_size


def unreadable(path: Path, error: Exception) -> ModelError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ModelError(f"{shown(path.name)[1:-1]} cannot be read: {reason}.")


def read_bytes(path: Path, limit: int) -> bytes:
    size = size_of(path)
    if size > limit:
        raise ModelError(f"{path.name} has {size} bytes; more than {limit} is not believable for such a file.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object that is the whole file."""
    return parse_object(read_bytes(path, limit), path.name)


def parse_object(raw: bytes, where: str, *, strict: bool = False) -> dict[str, Any]:
    """`strict` refuses what two readers could understand in two ways: repeated keys, NaN."""
    hooks: dict[str, Any] = {"object_pairs_hook": _unique, "parse_constant": _no_constant} if strict else {}
    try:
        value = json.loads(raw.decode("utf-8"), **hooks)
    except RecursionError as error:
        raise ModelError(f"{where} is not valid JSON: it is nested too deeply.") from error
    except ValueError as error:
        raise ModelError(f"{where} is not valid JSON: {str(error)[:200]}.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{where} must hold one JSON object.")
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def inside(folder: Path, name: str, who: str) -> Path:
    """The file of that name in the folder.

    A link may lead out of it to one place only: the blobs of the same repository in a Hugging Face
    cache (<repository>/snapshots/<revision>/<file> -> <repository>/blobs/<hash>).
    """
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    rooted = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    if not name or rooted or ".." in parts or not name.isprintable():
        raise ModelError(f"{who} names the file {shown(name)}, which is not inside the model's folder.")
    try:
        root, found = folder.resolve(), (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that go round
        raise ModelError(f"{who} names the file {shown(name)}, which leads nowhere.") from error
    allowed = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    if not any(found.is_relative_to(place) for place in allowed):
        raise ModelError(f"{who} names the file {shown(name)}, a link that leads out of the model's folder.")
    return folder / name


def digest(text: str) -> str:
    """Short enough for a file's name."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def key_of(place: Path) -> str:
    """What the names of all files begin with that are made from the model at that place."""
    return digest(str(place.resolve()))
