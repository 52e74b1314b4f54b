"""A ready file that is damaged at equal size and time: found in the background, by `verify`, and never used again."""

from __future__ import annotations

import json
import os
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxrun.core import Finish, Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.loading import checksums, ready
from mlxrun.loading.checksums import BackgroundCheck, Blocks, Damaged, Summed
from mlxrun.loading.load import LoadOptions, load_model
from mlxrun.ops.device import this_device
from tests.golden.checkpoint import reference, write

needs_native = pytest.mark.skipif(
    not this_device().native, reason="no native kernels here, so nothing is packed or kept"
)
ASKED = Request((1, 2, 3), 4, Sampling(temperature=0.0))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 1000)
    monkeypatch.setattr(checksums, "PIECE", 300)
    monkeypatch.setattr(ready, "BLOCK", 1000)
    monkeypatch.setattr(ready, "LEAST", 0)
    monkeypatch.setattr(ready, "SPARE", 0)


def blocks(file: Path, count: int = 3) -> Blocks:
    raw = bytes(range(256)) * 11
    file.write_bytes(raw[:2700])
    sums = tuple(zlib.crc32(raw[at : min(at + 1000, 2700)]) for at in range(100, 100 + 1000 * count, 1000))
    return Blocks(file, checksums.identity_of(file.stat()), 100, sums)


def flip(file: Path, at: int) -> None:
    seen = file.stat()
    with file.open("r+b") as opened:
        opened.seek(at)
        (byte,) = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte ^ 16]))
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_sums_are_of_blocks_however_they_are_written(tmp_path: Path) -> None:
    raw = os.urandom(3456)
    with (tmp_path / "file").open("wb") as file:
        sink = Summed(file)
        for start, end in ((0, 1), (1, 999), (999, 3000), (3000, 3456)):
            sink.write(memoryview(raw)[start:end])
    assert sink.sums() == [zlib.crc32(raw[at : at + 1000]) for at in range(0, 3456, 1000)]
    assert (tmp_path / "file").read_bytes() == raw
    text = checksums.written(sink.sums())
    assert checksums.read(text, 3456) == tuple(sink.sums())
    for size in (3000, 4001):
        with pytest.raises(ValueError, match="as many sums"):
            checksums.read(text, size)


@pytest.mark.parametrize(("at", "number"), [(100, 1), (1099, 1), (1100, 2), (2699, 3)])
def test_one_bit_is_found_and_its_block_named(at: int, number: int, tmp_path: Path) -> None:
    found = blocks(tmp_path / "file")
    assert list(checksums.check(found)) == [1, 2, 3]
    flip(found.path, at)
    with pytest.raises(Damaged, match=f"block {number} of 3"):
        list(checksums.check(found))
    flip(found.path, at)
    assert list(checksums.check(found, 1)) == [2, 3]


def test_another_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    found = blocks(tmp_path / "file")
    (tmp_path / "other").write_bytes(bytes(2700))
    os.replace(tmp_path / "other", found.path)
    assert list(checksums.check(found)) == []


def test_what_was_found_right_is_remembered_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(tmp_path / "file")
    assert checksums.checked(found) == 0
    check = BackgroundCheck(found)
    check.start()
    check.wait()
    assert (check.fault, checksums.checked(found)) == (None, 3)
    flip(found.path, 500)
    again = BackgroundCheck(found)
    again.start()  # nothing is read
    again.wait()
    assert again.fault is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + checksums.AGAIN + 1)
    later = BackgroundCheck(found)
    later.start()
    later.wait()
    assert later.fault == "block 1 of 3 is not what was written"


def test_a_change_of_time_is_another_file_and_a_broken_note_is_none(tmp_path: Path) -> None:
    found = blocks(tmp_path / "file")
    checksums.remember(found, 3)
    os.utime(found.path, (5, 5))
    assert checksums.checked(Blocks(found.path, checksums.identity_of(found.path.stat()), 100, found.sums)) == 0
    assert checksums.checked(found) == 3
    for text in ("", "[]", "{", json.dumps({"file": {"file": list(found.identity), "blocks": 9, "at": time.time()}})):
        (tmp_path / checksums.CHECKED).write_text(text)
        assert checksums.checked(found) == 0


def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    found = blocks(tmp_path / "file")
    checksums.remember(found, 2)
    flip(found.path, 100)  # in a block that was read already
    check = BackgroundCheck(found)
    check.start()
    check.wait()
    assert (check.fault, checksums.checked(found)) == (None, 3)


def test_it_rests_most_of_the_time_and_stops_when_told(tmp_path: Path) -> None:
    found = blocks(tmp_path / "file")
    told: list[float] = []
    assert list(checksums.check(found, paused=lambda took: bool(told.append(took)) or len(told) == 5)) == [1]
    assert len(told) == 5
    check = BackgroundCheck(found)
    check.stop()  # before it began
    check.start()
    check.wait()
    assert checksums.checked(found) == 0


# ---- under a model ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(reference("llama").checkpoint(), tmp_path / "model")


def kept(keep: Path) -> list[Path]:
    return list(keep.glob("*.ready.safetensors"))


def said(engine: Engine) -> Any:
    return list(engine.submit(ASKED))


@needs_native
def test_a_damaged_one_fails_what_runs_and_is_made_anew(folder: Path, tmp_path: Path) -> None:
    options = LoadOptions(ready=tmp_path / "ready")
    load_model(folder, options=options)
    (file,) = kept(options.ready or tmp_path)
    whole = file.read_bytes()
    flip(file, len(whole) - 40)
    engine = Engine.start(lambda: load_model(folder, options=options))
    try:
        assert engine._files._check is not None
        engine._files._check.wait()
        for _ in range(2):
            last = said(engine)[-1]
            assert last.finish is Finish.REFUSED
            assert "is damaged (block" in last.reason
            assert "load the model again" in last.reason
            assert not last.tokens
    finally:
        engine.close()
    assert not file.exists()
    engine = Engine.start(lambda: load_model(folder, options=options))
    try:
        assert engine._files._check is not None
        engine._files._check.wait()
        assert said(engine)[-1].finish is Finish.LENGTH
    finally:
        engine.close()
    assert file.read_bytes() == whole


@needs_native
@pytest.mark.parametrize("at", [4, 40, 200, 3000])
def test_a_damaged_header_is_noticed_when_it_is_opened(at: int, folder: Path, tmp_path: Path) -> None:
    options = LoadOptions(ready=tmp_path / "ready")
    load_model(folder, options=options)
    (file,) = kept(tmp_path / "ready")
    whole = file.read_bytes()
    flip(file, at)
    assert ready.open_ready(file) is None
    assert not file.exists()
    load_model(folder, options=options)
    assert file.read_bytes() == whole


@needs_native
def test_tokens_of_a_pass_whose_file_went_are_never_told(folder: Path, tmp_path: Path) -> None:
    """The pass is computed on zeros; it is asked about the file before anything is said."""
    options = LoadOptions(ready=tmp_path / "ready")
    engine = Engine.start(lambda: load_model(folder, options=options))
    runner, files = engine._runner, engine._files
    (file,) = kept(tmp_path / "ready")
    (mapped,) = files._held.files
    blind = type("Blind", (), {"lost": property(lambda self: mapped.lost), "unchanged": True})()
    files._held = replace(files._held, files=(blind,))  # so that only the fault itself tells,
    assert files._check is not None
    files._check.stop()  # and not the check of its blocks, which may come to the end that is gone before the pass does
    files._check = None

    forward = runner.forward

    def cut(plan: Any) -> Any:
        if file.exists():
            os.truncate(file, 0)
        return forward(plan)

    runner.forward = cut  # type: ignore[method-assign]  # for the engine it is the same
    try:
        events = said(engine)
    finally:
        engine.close()
    assert [event.tokens for event in events] == [()]
    assert events[-1].finish is Finish.FAILED
    assert "could not be read" in events[-1].reason


@needs_native
def test_one_that_cannot_be_mapped_stays_and_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = LoadOptions(ready=tmp_path / "ready")
    load_model(folder, options=options)

    class Refusing:
        def MappedFile(self, name: str, size: int) -> Any:
            raise RuntimeError("Cannot allocate memory")

    monkeypatch.setattr(ready, "native", Refusing())
    model = load_model(folder, options=options)
    assert kept(tmp_path / "ready")
    assert any("cannot be mapped: Cannot allocate memory" in note for note in model.notes)
