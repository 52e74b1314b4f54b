"""Tests with one module's text replaced: `python -m tests.kernels.mutated MODULE TEXT pytest-arguments ...`.

MODULE is the module's file, TEXT a file with what shall stand there instead. No file of the project is changed.
"""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest


def replace(module: Path, text: str) -> None:
    plain = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, name: str) -> CodeType | None:
        if Path(self.path).resolve() != module:
            return plain(self, name)
        return compile(text, self.path, "exec", dont_inherit=True)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]  # before anything of the project is imported


if __name__ == "__main__":
    replace(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).read_text())
    sys.exit(pytest.main(sys.argv[3:]))
