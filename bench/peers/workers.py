"""The asking side: an engine in a process of its own, asked one thing at a time. An idle one uses no processor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Died(SystemExit):
    """An engine's process is gone; told with how it ended and the last line that it said."""

    def __init__(self, name: str, code: int, said: str) -> None:
        self.how = f"{ended(code)}{f': {said}' if said else ''}".replace("|", "/")  # it stands in a table
        super().__init__(f"{name} died, {self.how}")


def ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Worker:
    def __init__(self, kind: str, file: Path, *, python: str = sys.executable, **options: Any) -> None:
        """kind: the name of the file beside this one."""
        self.name = kind
        self._errors = TemporaryFile("w+")  # noqa: SIM115 closed with the worker
        self._process = subprocess.Popen(
            [python, str(HERE / f"{kind}.py"), str(file), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(options.get("threads")),
        )
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, **what: Any) -> Any:
        with suppress(BrokenPipeError):  # it died while nobody asked; reading tells how
            self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
            self._process.stdin.flush()
        return self._read()["result"]

    def _read(self) -> Mapping[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = [line.strip() for line in self._errors if line.strip()]
            raise Died(self.name, self._process.returncode, said[-1] if said else "")
        return json.loads(line)

    def close(self) -> None:
        with suppress(BrokenPipeError):  # what was not yet sent to one that died
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def environment(threads: int | None) -> dict[str, str]:
    """OMP_WAIT_POLICY is left alone: how ggml's threads wait is part of how it is used."""
    found = {**os.environ, "PYTHONPATH": str(ROOT)}
    if threads:
        found |= {"MLXRUN_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    return found
