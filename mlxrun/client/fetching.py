"""A model brought to this disk by a process of its own, `mlxrun pull`, so that whoever waits can end it at any moment.

What has arrived is kept, and the next one goes on from there.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from .types import ClientError

SECONDS = 0.3  # after which a silent process is no reason not to look whether anybody still waits
COMMAND = (sys.executable, "-m", "mlxrun", "pull", "--json", "--")


def fetch(name: str, progress: Callable[[int, int], None], command: Sequence[str] = COMMAND) -> Path:
    """Where it is then. `progress` hears of the bytes that came and of all that come, again and again; what it raises
    ends the process and is raised here."""
    done = total = 0
    process = subprocess.Popen(
        [*command, name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # pip, which it may start, ends with it
    )
    assert process.stdout is not None
    try:
        for line in lines_or_silence(process.stdout):
            told = json.loads(line) if line else {}
            if "error" in told:
                raise ClientError(told["error"])
            if "place" in told:
                return Path(told["place"])
            done, total = told.get("completed", done), told.get("total", total)
            progress(done, total)
        raise ClientError(f"{name} could not be fetched: what fetches it died.")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def lines_or_silence(file: IO[bytes]) -> Iterator[bytes]:
    """Its lines; b"" now and then where none comes."""
    rest = b""
    while True:
        if not select.select([file], [], [], SECONDS)[0]:
            yield b""
            continue
        read = os.read(file.fileno(), 1 << 16)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        yield from filter(None, lines)
