"""`mlxrun serve --machines` as its own processes, and what can be done to them from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server.process import Serving, serving

HERE = {"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}


def written(folder: Path, count: int, silence: float = 10.0) -> Path:
    file = folder / f"machines{count}.json"
    file.write_text(json.dumps({"hosts": [HERE] * count, "silence": silence}))
    return file


@contextmanager
def together(model: Path, file: Path, *arguments: str) -> Iterator[Serving]:
    with serving(str(model), "--machines", str(file), *arguments) as own:
        yield own


def ranks(own: Serving) -> list[int]:
    """The process ids of its machines, the first one's first: they were started in that order."""
    listed = Path(f"/proc/{own.process.pid}/task/{own.process.pid}/children").read_text().split()
    return sorted(map(int, listed))


def mapped_weights(pid: int) -> int:
    """Bytes in memory of files that a packed model is mapped from."""
    found, own = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            own = any(word.endswith(".ready.safetensors") for word in words)  # another process may have made it anew
        elif own and words[0] == "Rss:":
            found += 1024 * int(words[1])
    return found
