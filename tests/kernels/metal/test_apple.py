"""What would be handed to Apple's compiler, and what is told of its answers; the compiler is a made-up one."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlxrun.metal_kernels import launch

from . import apple

XCRUN = """#!/bin/sh
case "$*" in *metal4.0*broken*) echo "broken.metal:1: error: no such thing" >&2; exit 1;; esac
"""


def test_every_body_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apple, "FLOATS", apple.FLOATS[:1])
    texts = apple.write_texts(tmp_path)
    assert all(any(f"mlxrun_{body.stem}_" in text.name for text in texts) for body in launch.FOLDER.glob("*.metal"))
    assert all(text.read_text().startswith(apple.HEADER) and "[[kernel]]" in text.read_text() for text in texts)
    assert (apple.INCLUDE / apple.HEADER.split('"')[1]).exists()


def test_what_does_not_compile_is_told_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "xcrun").write_text(XCRUN)
    (tmp_path / "xcrun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(apple, "write_texts", lambda folder: [folder / "fine.metal", folder / "broken.metal"])
    assert apple.main([str(tmp_path), "--std", "metal3.1"]) == 0
    assert apple.main([str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "== broken.metal as metal4.0\nbroken.metal:1: error: no such thing" in told
    assert "1 of 6 did not compile" in told


def test_without_xcode_they_are_only_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(apple, "write_texts", lambda folder: [folder / "fine.metal"])
    monkeypatch.setenv("PATH", "")
    assert apple.main([str(tmp_path)]) == 0
    assert "nothing is compiled" in capsys.readouterr().out
