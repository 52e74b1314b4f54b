"""The worker's side: an engine answers one line of JSON with another. Imports nothing but the standard library."""

from __future__ import annotations

import json
import os
import random
import resource
import sys
from pathlib import Path
from typing import Any, Protocol


class Engine(Protocol):
    """Greedy or forced tokens, whichever costs the engine less; every call is timed inside, in seconds."""

    def fill(self, context: int, batch: int, steps: int) -> None:
        """`batch` sequences of `context` tokens each, with room for `steps` more; warm."""

    def decode(self, steps: int) -> float:
        """That many tokens for every sequence, which are then as long as before, where a state can be taken back."""

    def prefill(self, tokens: int) -> float:
        """A new sequence, up to the logits of its last row."""

    def logits(self, ids: list[int], file: str) -> None:
        """(len(ids), vocab) float32 of one sequence, as a .npy file."""


def prompt(vocab: int, tokens: int, number: int = 0) -> list[int]:
    """The same for every engine; number: of the sequence."""
    return random.Random(number).choices(range(min(vocab, 40000)), k=tokens)


def answer(make: Any) -> None:
    """`make(file, options)` -> Engine. stdout is for answers alone: what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    before = peak()  # of the interpreter and its libraries
    engine: Engine = make(sys.argv[1], json.loads(sys.argv[2]))
    out.write("{}\n")
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked.pop("do")
        result = peak() - before if name == "peak" else getattr(engine, name)(**asked)
        out.write(json.dumps({"result": result}) + "\n")


def peak() -> int:
    """Bytes that this process had at most, mapped files included.

    Linux's ru_maxrss would count the process that started this one, so it is asked elsewhere.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
