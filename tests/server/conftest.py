"""Servers that several tests share: a tiny model, and SmolLM2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .process import Serving, serving
from .tiny import write_tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny", context=1024)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Iterator[Serving]:
    with serving(str(tiny_folder), "--temperature", "1") as own:
        yield own


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> Iterator[Serving]:
    with serving(str(smollm2_gguf), "--name", "smollm2") as own:
        yield own
