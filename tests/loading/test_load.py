"""Loading on options: refused before a byte is read, made ready on disk, mapped, interrupted, damaged."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.cpu_kernels.load import Status

from mlxrun.engine.engine import Engine
from mlxrun.loading import LoadOptions, fit, load, load_model, ready
from mlxrun.memory.machine import Machine, private_bytes
from mlxrun.memory.profiles import profile
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from tests.golden.checkpoint import reference, write
from tests.unit.memory import outlines

GIB = 2**30
needs_native = pytest.mark.skipif(
    not this_device().native, reason="no native kernels here, so nothing is packed or kept"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(reference("gpt_oss").checkpoint(), tmp_path / "model")


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ready, "LEAST", 0)
    monkeypatch.setattr(ready, "SPARE", 0)
    return tmp_path / "ready"


def logits(model: Any, count: int = 9) -> list[float]:
    sequence = model.new_sequence()
    hidden = model(mx.arange(count, dtype=mx.int32), [(sequence, count)])
    return list(model.logits(hidden[-1:])[0].tolist())


def kept_files(keep: Path) -> list[str]:
    return [file.name for file in keep.iterdir() if file.name != ".lock"] if keep.exists() else []


# ---- what does not fit --------------------------------------------------------------------------


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def has(gib: float) -> None:
        monkeypatch.setattr(
            fit, "this_machine", lambda: Machine("small", round(2 * gib * GIB), round(gib * GIB), False, here=True)
        )

    return has


def test_a_model_that_does_not_fit_is_never_read(
    tmp_path: Path, small_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_machine(2)
    place = outlines.write(tmp_path / "big", outlines.QWEN3_4B, 4)
    monkeypatch.setattr(load, "map_or_pack", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ModelError, match=r"does not fit: with a context of 512 tokens it takes 2\.\d GiB") as told:
        load_model(place)
    assert "with 3 bits a weight" in str(told.value) or "with 2 bits a weight" in str(told.value)
    assert "--anyway" in str(told.value)


@pytest.mark.parametrize("others", [0, 4], ids=["alone", "beside-another-mlxrun"])
def test_the_smallest_mac_is_told_what_fits(
    others: int, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 GB, of which another process may hold a part: one sentence, with the figures of this moment."""
    whole = profile("M1 8GB")
    now = replace(whole, here=True, usable=whole.usable - others * GIB)
    monkeypatch.setattr(fit, "this_machine", lambda: now)
    place = outlines.write(tmp_path / "big", outlines.QWEN3_4B, None)
    monkeypatch.setattr(load, "map_or_pack", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ModelError) as told:
        load_model(place)
    said = str(told.value)
    assert f"{now.usable / GIB:.1f} GiB can be used here" in said
    assert "--anyway" in said
    assert "\n" not in said
    monkeypatch.undo()
    monkeypatch.setattr(fit, "this_machine", lambda: now)
    assert load_model(folder).context > 0  # as the starter, a small one does


def test_a_context_that_does_not_fit_names_the_one_that_does(
    tmp_path: Path, small_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_machine(4)
    place = outlines.write(tmp_path / "big", outlines.QWEN3_4B, 4)
    monkeypatch.setattr(load, "map_or_pack", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ModelError, match=r"with a context of 200000 tokens .* \(--context (\d+)\)"):
        load_model(place, options=LoadOptions(context=200000))


def test_nobody_asked_so_as_much_as_fits_is_promised(folder: Path) -> None:
    whole = load_model(folder)
    least = load_model(folder, options=LoadOptions(memory=150 * 2**20 + 1_000_000, anyway=True))
    assert not any("Memory is enough" in note for note in whole.notes)
    if least.context < whole.context:
        assert any(f"Memory is enough for a context of {least.context} tokens" in note for note in least.notes)


def test_anyway_goes_on_with_a_warning(folder: Path, small_machine: Any) -> None:
    small_machine(0.01)
    with pytest.raises(ModelError, match="does not fit"):
        load_model(folder)
    model = load_model(folder, options=LoadOptions(anyway=True))
    assert any("the system may become slow" in note for note in model.notes)


# ---- kept ready on disk -------------------------------------------------------------------------


@needs_native
@pytest.mark.parametrize("name", ["llama", "gpt_oss", "deepseek_v3", "qwen3_next", "granite_hybrid"])
def test_the_second_start_maps_what_the_first_made(name: str, tmp_path: Path, keep: Path) -> None:
    folder = write(reference(name).checkpoint(), tmp_path / "model")
    plain, first, second = load_model(folder), load_model(folder, options=LoadOptions(ready=keep)), None
    made = kept_files(keep)
    seen: list[int] = []
    second = load_model(folder, options=LoadOptions(ready=keep, progress=lambda done, total: seen.append(done)))
    assert len(made) == 1
    assert kept_files(keep) == made
    assert not seen  # nothing was packed
    assert second.holdings.files[0].size == (keep / made[0]).stat().st_size
    assert logits(plain) == logits(first) == logits(second)


@needs_native
def test_it_is_a_safetensors_file_in_pages(folder: Path, keep: Path) -> None:
    from safetensors import safe_open

    load_model(folder, options=LoadOptions(ready=keep))
    (name,) = kept_files(keep)
    with safe_open(keep / name, "np") as file:
        names = set(file.keys())
        assert file.metadata()["format"] == ready.FORMAT
    header = ready.read_header(keep / name)
    assert names == set(header.tensors)
    packed = [place for name, place in header.tensors.items() if place.dtype == "U8" and name[0] != "~"]
    assert packed
    assert all(place.start % ready.PAGE == 0 for place in packed)


@needs_native
def test_a_source_that_changed_is_made_anew_and_the_old_goes(folder: Path, keep: Path) -> None:
    load_model(folder, options=LoadOptions(ready=keep))
    before = kept_files(keep)
    os.utime(folder / "config.json", (1, 1))
    load_model(folder, options=LoadOptions(ready=keep))
    after = kept_files(keep)
    assert len(after) == 1
    assert after != before


@needs_native
def test_one_that_was_read_with_other_flags_stands_beside_it(folder: Path, keep: Path) -> None:
    options = LoadOptions(ready=keep)
    for waive in (frozenset[str](), frozenset(("nothing_of_it",)), frozenset[str]()):
        load_model(folder, waive=waive, options=options)
    assert len(kept_files(keep)) == 2


@needs_native
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "layouts"])
def test_a_damaged_one_is_made_anew(damage: str, folder: Path, keep: Path) -> None:
    wanted = logits(load_model(folder, options=LoadOptions(ready=keep)))
    (name,) = kept_files(keep)
    raw = (keep / name).read_bytes()
    changed = {
        "cut": raw[:-100],
        "empty": b"",
        "text": b"nonsense" * 100,
        "layouts": raw.replace(b'\\"plain\\"', b'\\"plane\\"')
        .replace(b", 4096]", b", 4032]")
        .replace(b"[0, ", b"[9, "),
    }[damage]
    (keep / name).write_bytes(changed)
    again = load_model(folder, options=LoadOptions(ready=keep))
    assert logits(again) == wanted
    assert (keep / name).read_bytes() == raw


@needs_native
def test_a_full_disk_leaves_nothing_and_the_model_runs(
    folder: Path, keep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def full(*_: Any) -> None:
        nonlocal written
        written += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ready, "_write", full)
    model = load_model(folder, options=LoadOptions(ready=keep))
    assert written == 1
    assert kept_files(keep) == []
    assert any("No space left on device" in note for note in model.notes)
    assert logits(model) == logits(load_model(folder))


@needs_native
def test_a_disk_with_too_little_room_is_left_alone(folder: Path, keep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "SPARE", 1 << 60)
    model = load_model(folder, options=LoadOptions(ready=keep))
    assert kept_files(keep) == []
    assert any("lacks room" in note for note in model.notes)


@needs_native
def test_a_folder_that_cannot_be_made_is_said(folder: Path, keep: Path) -> None:
    keep.write_text("a file")
    model = load_model(folder, options=LoadOptions(ready=keep / "inside"))
    assert any("were not kept" in note for note in model.notes)


@needs_native
def test_interrupted_it_leaves_nothing(folder: Path, keep: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert list(keep.iterdir()) == [keep / ".lock"]  # no name before it is whole
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_model(folder, options=LoadOptions(ready=keep, progress=stop))
    assert kept_files(keep) == []
    load_model(folder, options=LoadOptions(ready=keep))
    assert len(kept_files(keep)) == 1


@needs_native
def test_without_nameless_files_a_name_aside_serves(folder: Path, keep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    first = load_model(folder, options=LoadOptions(ready=keep))
    assert len(kept_files(keep)) == 1
    assert first.holdings.files


@needs_native
def test_what_a_killed_one_left_goes_with_the_next_try(folder: Path, keep: Path) -> None:
    """Where files cannot be made without a name."""
    code = (
        "import os, signal, sys; del os.O_TMPFILE; from pathlib import Path; from mlxrun.loading import ready\n"
        "ready.LEAST = ready.SPARE = 0\n"
        "from mlxrun.loading import LoadOptions, load_model\n"
        "def die(done, total): os.kill(os.getpid(), signal.SIGKILL)\n"
        "load_model(sys.argv[1], options=LoadOptions(ready=Path(sys.argv[2]), progress=die))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(keep)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(keep.glob(f"{ready.HALF}*"))) == 1
    load_model(folder, options=LoadOptions(ready=keep))
    assert not list(keep.glob(f"{ready.HALF}*"))
    assert len(kept_files(keep)) == 1


@needs_native
def test_what_is_longest_unused_goes_first(tmp_path: Path) -> None:
    for age, name in enumerate(("c", "b", "a")):
        file = tmp_path / f"{name}{ready.SUFFIX}"
        file.write_bytes(bytes(100))
        os.utime(file, (1000 - age, 1000))
    ready.make_room(tmp_path, 100, keep=tmp_path / "new", most=320)
    assert sorted(file.name[0] for file in tmp_path.iterdir()) == ["b", "c"]


@needs_native
def test_two_at_once_make_one(folder: Path, keep: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mlxrun.loading import ready; ready.LEAST = ready.SPARE = 0\n"
        "from mlxrun.loading import LoadOptions, load_model\n"
        "model = load_model(sys.argv[1], options=LoadOptions(ready=Path(sys.argv[2])))\n"
        "print(len(model.holdings.files))"
    )
    command = [sys.executable, "-c", code, str(folder), str(keep)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in both] == ["1", "1"]
    assert len(kept_files(keep)) == 1


@needs_native
def test_smollm2_mapped_takes_next_to_nothing_of_its_own(smollm2_gguf: Path, tmp_path: Path) -> None:
    """Beside the weights themselves: a twelfth of their size, most of it Python's."""
    if shutil.disk_usage(tmp_path).free < 2 * GIB:
        pytest.skip("less than 2 GiB of disk are free")
    options = LoadOptions(ready=tmp_path / "ready")
    load_model(smollm2_gguf, options=options)
    before = private_bytes() or 0
    model = load_model(smollm2_gguf, options=options)
    size = model.holdings.files[0].size
    assert size > 90e6
    assert (private_bytes() or 0) - before < size / 12
    engine = Engine.start(lambda: load_model(smollm2_gguf, options=options))
    try:
        told = engine.memory().weights
        assert size * 0.99 < told < size * 1.2  # though MLX itself counts nothing of it
    finally:
        engine.close()


@pytest.mark.parametrize(("gpu", "native"), [(False, False), (False, True), (True, False)])
def test_a_processor_without_our_kernels_is_told(
    gpu: bool, native: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a processor's, and why the library is missing only where it is."""
    device = replace(this_device(native=False), gpu=gpu)
    missing = Status(native, None if native else "they were not built: no C++ compiler was found")
    monkeypatch.setattr("mlxrun.ops.native.status", lambda: missing)
    notes = load_model(folder, options=LoadOptions(device=device)).notes
    told = [note for note in notes if "many times slower: they were not built: no C++ compiler" in note]
    assert len(told) == (not gpu and not native)
