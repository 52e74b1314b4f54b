"""Small C++ programs over the kernels' own sources, compiled when a test asks for them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCES = Path(os.environ.get("MLXRUN_TEST_SOURCES", ROOT / "cpu_kernels" / "src"))  # mutants stand elsewhere
STANDARD = ("-std=c++20", "-g", "-pthread", f"-I{SOURCES}")


def why_not(compiler: str = "g++") -> str:
    """Why nothing can be compiled here; nothing where it can."""
    return "" if shutil.which(compiler) else f"{compiler} is not here."


@functools.cache
def folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def program(source: Path, *flags: str, compiler: str = "g++") -> Path:
    """Compiled once a run of the tests."""
    target = Path(tempfile.mkdtemp(dir=folder().name)) / source.stem
    command = [compiler, *STANDARD, *flags, str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target
