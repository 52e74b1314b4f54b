"""Tests with one module's text replaced, in a forked child of a process that has read the large libraries already."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

# read before any fork; nothing may be computed here, for MLX loses its threads in a fork
import hypothesis  # noqa: F401 read ahead
import mlx.core  # noqa: F401 read ahead
import numpy  # noqa: F401 read ahead
import pytest

from .mutants import KILLED, ROOT, SURVIVED


def replace(module: Path, text: str) -> None:
    plain = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, name: str) -> CodeType | None:
        if Path(self.path).resolve() != module:
            return plain(self, name)
        return compile(text, self.path, "exec", dont_inherit=True)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]  # before anything of the project is imported


def tested(module: Path, text: str, tests: list[str], seconds: int) -> str:
    """How the tests ended with that text in the module's place: killed, or survived. No file is changed."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        child = os.fork()
        if child == 0:
            out = os.open(said, os.O_CREAT | os.O_WRONLY)
            os.dup2(out, 1), os.dup2(out, 2)
            signal.alarm(seconds)  # whoever does not end is ended
            os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
            replace(module.resolve(), text)
            how = ["-x", "-q", "-p", "no:cacheprovider", "--tb=line", "--hypothesis-seed=0", f"--rootdir={ROOT}"]
            os._exit(pytest.main([*how, *(str(ROOT / test) for test in tests)]))
        _, status = os.waitpid(child, 0)
        if status == 0:
            return SURVIVED
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", said.read_text(), re.M)
        return f"{KILLED}: {failed[0].split('/')[-1] if failed else f'the tests ended with {status}'}"
