"""What `verify` says of a file that nobody knows the digest of."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxrun.cli import main
from tests.server.tiny import write_tiny


def test_a_damaged_file_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\3")
    assert main(["verify", str(tmp_path / "cut.gguf")]) == 1
    told = capsys.readouterr().err
    assert told == "cut.gguf is too short to be a GGUF file.\n"


def test_a_file_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny(tmp_path / "tiny", 64)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert main(["verify", str(folder)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("tiny: ")
    assert "model.safetensors" in told
    assert not told.endswith("..\n")
