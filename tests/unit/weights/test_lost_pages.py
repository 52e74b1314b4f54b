"""Pages that cannot be read: the file that they are of counts as lost, and nobody else is concerned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxrun.convert.folder import convert_folder
from mlxrun.convert.gguf_file import Head, write_file
from mlxrun.ops.native import native
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from mlxrun.weights.gguf import read_gguf
from mlxrun.weights.headers import read_header
from mlxrun.weights.mapped import MappedPages, believed, lost_count, lost_files, map_tensors
from tests.golden.checkpoint import reference, write

pytestmark = pytest.mark.skipif(native is None, reason="the native library is not built, and nothing else maps here")
PAGE = 4096


def written(place: Path, pages: int = 64) -> Path:
    place.write_bytes(b"\1" * (pages * PAGE))
    return place


def test_a_file_that_is_cut_short_shows_zeros_and_is_lost(tmp_path: Path) -> None:
    file, other = written(tmp_path / "cut"), written(tmp_path / "whole")
    held, untouched = (native.MappedFile(str(each), 64 * PAGE) for each in (file, other))
    view = held.array(0, [64, PAGE], mx.uint8)
    before = lost_count()
    os.truncate(file, 8 * PAGE)
    assert not held.lost  # nobody has looked
    assert np.array(view).sum() <= 8 * PAGE
    assert held.lost
    assert not held.unchanged
    assert not untouched.lost
    assert np.array(untouched.array(0, [64, PAGE], mx.uint8)).sum() == 64 * PAGE
    assert lost_count() == before + 1
    assert str(file) in lost_files()
    del held, view
    assert str(file) in lost_files()  # although nobody has it any more


def test_the_page_of_a_last_byte_is_guarded(tmp_path: Path) -> None:
    file = tmp_path / "cut"
    file.write_bytes(b"\1" * (PAGE + 1))
    held = native.MappedFile(str(file), PAGE + 1)
    os.truncate(file, 0)
    assert np.array(held.array(PAGE, [1], mx.uint8)).tolist() == [0]
    assert held.lost


def test_many_threads_at_once_and_a_new_file_in_the_same_place(tmp_path: Path) -> None:
    before = lost_count()
    for turn in range(8):
        file = written(tmp_path / f"file{turn}")
        held = native.MappedFile(str(file), 64 * PAGE)
        assert not held.lost
        view = np.array(held.array(0, [64 * PAGE], mx.uint8), copy=False)
        os.truncate(file, 0)
        start = threading.Barrier(4)

        def look(view: np.ndarray = view, start: threading.Barrier = start) -> None:
            start.wait()
            view.sum()

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert held.lost
        assert lost_count() == before + turn + 1
        del held, view


def test_pages_that_python_maps(tmp_path: Path) -> None:
    file = written(tmp_path / "cut")
    with file.open("rb") as opened:
        pages = MappedPages.of(opened)
    os.truncate(file, 0)
    with pytest.raises(ModelError, match="cut was cut short"), believed():
        assert pages[5 * PAGE] == 0
    pages.close()
    with believed():
        assert lost_count()


def test_a_fault_explains_whatever_came_of_it(tmp_path: Path) -> None:
    held = native.MappedFile(str(written(tmp_path / "cut")), 64 * PAGE)
    with pytest.raises(KeyError), believed():
        raise KeyError
    os.truncate(tmp_path / "cut", 0)

    def fail() -> None:
        np.array(held.array(0, [64 * PAGE], mx.uint8))
        raise ZeroDivisionError

    with pytest.raises(ModelError, match="cut was cut short"), believed():
        fail()


def test_a_safetensors_file_that_is_cut_short_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"weight": np.ones((64, PAGE), np.float16)}, file)
    found = map_tensors(file, read_header(file).tensors, file.stat().st_size).views
    os.truncate(file, PAGE)
    with pytest.raises(ModelError, match=r"model\.safetensors was cut short"), believed():
        mx.eval(found["weight"].astype(mx.float32))


def test_the_header_of_a_gguf_file_that_is_cut_short_is_refused(
    smollm2_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cut.gguf"
    with smollm2_gguf.open("rb") as whole:
        file.write_bytes(whole.read(1 << 20))
    os.truncate(file, smollm2_gguf.stat().st_size)
    mapped = MappedPages.of

    def cut(opened: object) -> MappedPages:
        pages = mapped(opened)  # type: ignore[arg-type]  # the file that is handed on
        os.truncate(file, 4096)
        return pages

    monkeypatch.setattr(MappedPages, "of", cut)
    with pytest.raises(ModelError, match=r"cut\.gguf was cut short"):
        read_gguf(file)


FOREIGN = """
import faulthandler, mmap, os, sys
{first}
from tests.kernels.cpu.library import native
guarded, foreign = sys.argv[1:]
held = native.MappedFile(guarded, os.path.getsize(guarded))
{then}
file = open(foreign, "r+b")
pages = mmap.mmap(file.fileno(), 0)
os.truncate(guarded, 0)
os.truncate(foreign, 0)
memoryview(held.array(0, [1], __import__("mlx.core").core.uint8))[0]
print(held.lost, native.lost_count(), flush=True)
pages[9000]
print("lived")
"""


@pytest.mark.parametrize(
    ("first", "then"),
    [("", ""), ("faulthandler.enable()", ""), ("", "faulthandler.enable(); held = native.MappedFile(guarded, 262144)")],
    ids=["alone", "a handler before", "a handler between"],
)
def test_what_is_not_ours_ends_the_process_as_ever(first: str, then: str, tmp_path: Path) -> None:
    files = [str(written(tmp_path / name)) for name in ("guarded", "foreign")]
    code = FOREIGN.format(first=first, then=then)
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True 1\n", done.stderr
    assert done.returncode == -signal.SIGBUS
    assert ("Bus error" in done.stderr) is bool(first or then)


@pytest.mark.parametrize("out", ["folder", "file.gguf"])
def test_what_is_converted_from_a_file_that_is_cut_short_is_not_kept(out: str, tmp_path: Path) -> None:
    source = write(reference("llama").checkpoint(), tmp_path / "model") / "model.safetensors"
    checkpoint = open_checkpoint(source.parent)
    assert source.stat().st_size > 8 * PAGE
    if out == "folder":
        with pytest.raises(ModelError, match=r"model\.safetensors was cut short"):
            convert_folder(checkpoint, tmp_path / out, progress=lambda done, total: os.truncate(source, PAGE))
    else:
        tensors = {name: (weight,) for name, weight in checkpoint.tensors().items()}
        with pytest.raises(ModelError, match=r"model\.safetensors was cut short"):
            write_file(tmp_path / out, Head(0, b"", 32), tensors, "F16", lambda done, total: os.truncate(source, PAGE))
    assert not (tmp_path / out).exists()
