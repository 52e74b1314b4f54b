"""Runs parts one after the other, each in a process of its own, and tells what came of each, whatever happened to it.

A part that hangs, dies or writes nonsense is named with its reason, and the next one runs. All together have a time
too: who begins late has less of it. Knows no part.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from .results import Part, Result, State

WHOLE, WHOLE_QUICK = 295.0, 58.0  # seconds for all parts
GRACE = 2.0  # seconds for a process to tell where it hung
LEAST = 1.0  # seconds that are worth beginning a part
MOST_BYTES = 4 << 20  # that a part may write down
FRAME = re.compile(r'File ".*?((?:mlxrun|metal_kernels|cpu_kernels|tests)[/\\][^"]+)", line (\d+) in (\S+)')


@dataclass(slots=True)
class Heard:
    """What a part has written so far."""

    begun: str = ""
    checks: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    end: tuple[State, str] | None = None
    garbled: str = ""
    too_much: bool = False

    def take(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            match found:
                case {"begin": str(what)}:
                    self.begun = what
                case {"check": {"name": str(), "good": bool(), "said": str()} as check}:
                    self.checks.append(check)
                case {"number": [str(name), value]}:
                    self.numbers[name] = value
                case {"end": ["passed" | "failed" | "not run" as state, str(said)]}:
                    self.end = (state, said)
                case _:
                    self.garbled = self.garbled or line.decode("utf-8", "replace")[:80]
        except ValueError:
            self.garbled = self.garbled or line.decode("utf-8", "replace")[:80]


def run(
    parts: Iterable[Part],
    *,
    quick: bool = False,
    whole: float | None = None,
    without: Mapping[str, str] | None = None,
    begin: Callable[[Part], None] = lambda part: None,
) -> Iterator[Result]:
    """`whole`: seconds for all of them. `without`: parts that shall not run, by name, and why."""
    end = time.monotonic() + (whole or (WHOLE_QUICK if quick else WHOLE))
    for part in parts:
        reason = (without or {}).get(part.name)
        seconds = min(part.allowed(quick), end - time.monotonic())
        if reason is None and seconds < LEAST:
            reason = "The time for all parts was used up before this one began."
        if reason is not None:
            yield Result(part, "not run", reason)
            continue
        begin(part)
        yield one(part, seconds, quick=quick)


def one(part: Part, seconds: float, *, quick: bool) -> Result:
    began = time.monotonic()
    read, write = os.pipe()
    with (
        tempfile.TemporaryDirectory(prefix="mlxrun-selftest-", ignore_cleanup_errors=True) as scratch,
        tempfile.TemporaryFile() as said,
        os.fdopen(read, "rb", buffering=0) as pipe,
    ):
        # -P: what lies in the folder where a person stands is none of our modules
        command = [sys.executable, "-P", "-m", "mlxrun.selftest.child", part.function, str(write), f"{seconds:.3f}"]
        process = subprocess.Popen(
            [*command, *(["quick"] if quick else [])],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            pass_fds=(write,),
            env=environment(part, scratch),
            process_group=0,  # so that what it started ends with it
        )
        os.close(write)
        try:
            heard, in_time = listen(pipe, began + seconds + GRACE)
            code = 0 if heard.too_much else ended(process, began + seconds + GRACE) if in_time else None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        took = time.monotonic() - began
        state, sentence = judged(heard, code, last_words(said), min(took, seconds))
    return Result(part, state, sentence, took, tuple(heard.checks), heard.numbers)


def environment(part: Part, scratch: str) -> dict[str, str]:
    """Nothing is fetched, nothing but weights is ever wired, and what a part writes goes with it however it ends."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MLXRUN_WIRE", "MLXRUN_CONTEXT")}
    own = {"HF_HUB_OFFLINE": "1", "TMPDIR": scratch, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return {**kept, **own, **part.environ}


def listen(pipe: IO[bytes], until: float) -> tuple[Heard, bool]:
    """All that a part writes down; False: it had not ended by then."""
    heard, rest, size = Heard(), b"", 0
    while (left := until - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            return heard, False
        piece = pipe.read(1 << 16)
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            heard.take(line)
        size += len(piece)
        heard.too_much = size > MOST_BYTES
        if not piece and rest:
            heard.take(rest)
        if not piece or heard.too_much:
            return heard, True
    return heard, False


def ended(process: subprocess.Popen[bytes], until: float) -> int | None:
    """Its exit code; None: it has not ended."""
    try:
        return process.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def judged(heard: Heard, code: int | None, words: list[str], seconds: float) -> tuple[State, str]:
    during = f" during {heard.begun}" if heard.begun else ""
    timeout = any(line.startswith("Timeout (") for line in words)
    if heard.too_much:
        return "died", f"It wrote more than {MOST_BYTES >> 20} MiB of results{during}."
    if code is None or (code and timeout):
        place = next((frame for line in words if (frame := FRAME.search(line))), None)
        where = f", in {place[3]} of {place[1]}:{place[2]}" if place else ""
        return "hung", f"It had not ended after {seconds:.0f} s{during}{where}."
    if code < 0:
        return "died", f"Its process was ended by {name_of_signal(-code)}{during}."
    if code:
        last = next((line for line in reversed(words) if line.strip()), "it said nothing")
        return "died", f"Its process ended with exit code {code}{during}: {last.strip()[:300]}"
    if heard.garbled:
        return "died", f"It wrote something that is no result{during}: {heard.garbled!r}."
    if heard.end is None:
        return "died", f"Its process ended without a result{during}."
    return heard.end


def name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_words(said: IO[bytes]) -> list[str]:
    """The end of what a process printed."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - 8192))
    return said.read().decode("utf-8", "replace").splitlines()
