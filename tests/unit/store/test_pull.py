"""Pulling GGUF files from a hub that answers, refuses, breaks off and lies; and what is then done with them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from mlxrun.cli import main
from mlxrun.memory import disk
from mlxrun.memory.machine import Machine
from mlxrun.settings import Settings
from mlxrun.spec import ModelError
from mlxrun.store import blob, names, pull
from mlxrun.store.resolve import list_installed, resolve
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference
from tests.unit.families import test_gguf_models
from tests.unit.store.fake_hub import COMMIT, REFUSALS, FakeHub, printed_by_two, the_only_hub
from tests.unit.store.test_far import halved

GIB = 2**30
Q4, Q8, F16 = "Tiny-Q4_K_M.gguf", "Tiny-Q8_0.gguf", "Tiny-F16.gguf"
TOWER = "mmproj-Tiny-BF16.gguf"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = "llama_tied"
    file = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    return test_gguf_models.write(reference(case), test_gguf_models.ARCHITECTURES[case], file)


@pytest.fixture
def far(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    raw = model.read_bytes()
    files = {name: raw + number.to_bytes(4, "little") for number, name in enumerate((Q4, Q8, F16))}
    files |= {TOWER: b"GGUF", "README.md": b"hello", "config.json": b"{}"}
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    with the_only_hub(FakeHub(files), tmp_path, monkeypatch) as fake:
        yield fake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def room(gib: float, patch: pytest.MonkeyPatch) -> None:
    machine = Machine("a box", 64 * GIB, int(gib * GIB), gpu=False, here=True)
    patch.setattr(pull, "machine_of", lambda settings: machine)


def fetched(far: FakeHub) -> set[str]:
    return {line.rpartition("/")[2] for line in far.asked if line.startswith("GET") and "/resolve/" in line}


def unfinished(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "hub").rglob(f"*{blob.UNFINISHED}"))


# ---- which file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["org/name:Q4_K_M", "org/name:q4_k_m", f"org/name/{Q4}", f"org/name@{COMMIT}:q4_k_m"])
def test_only_the_file_that_is_named_is_fetched_and_only_once(name: str, far: FakeHub, settings: Settings) -> None:
    place = resolve(name, settings)
    assert place.name == Q4
    assert place.read_bytes() == far.files[Q4]
    assert open_checkpoint(place).dialect == "gguf"
    assert fetched(far) == {Q4}
    far.asked.clear()
    assert resolve(name, settings) == place
    assert far.asked == []


def test_without_a_tag_the_best_that_fits_is_taken_and_told(
    far: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room(8, monkeypatch)
    assert resolve("org/name", settings).name == Q8
    told = capsys.readouterr().err
    assert told.startswith("org/name: Q8_0 ")
    assert "is taken: the most bits up to 8 whose weights leave half of the 8.0 GiB" in told
    assert "Others: F16, Q4_K_M." in told
    assert not any("Q4_K_M" in line or "mmproj" in line for line in far.asked)
    far.asked.clear()
    assert resolve("org/name", settings).name == Q8  # what is here comes first
    assert far.asked == []


def test_the_plan_refuses_before_anything_large_is_fetched(
    far: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    room(0.1, monkeypatch)  # less than the program itself
    with pytest.raises(ModelError, match="choose a smaller model, or name a file"):
        resolve("org/name", settings)
    assert not (settings.home.parent / "hub").exists()


def test_what_does_not_fit_by_its_size_is_not_even_asked(
    far: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room(8, monkeypatch)
    far.lies = {Q8: 7 * GIB}
    assert main(["fit", "org/name", "--on", "M1 8GB", "--json"]) == 0
    said = capsys.readouterr()
    assert "org/name: Q4_K_M" in said.err
    assert json.loads(said.out)["fits"]
    assert not any(Q8 in line for line in (*far.asked, *far.ranges))
    assert not (settings.home.parent / "hub").exists()


@pytest.mark.parametrize("name", ["org/name:Q8_0", "org/name", "hf.co/org/name:q4_k_m"])
def test_fit_here_and_there_say_the_same(
    name: str, far: FakeHub, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", name, "--on", "M4 Pro 24GB", "--json"]
    assert main(words) == 0
    before = capsys.readouterr()
    assert "is not on this machine" in before.err
    assert main(["pull", name]) == 0
    capsys.readouterr()
    assert main(words) == 0
    after = capsys.readouterr()
    assert after.out == before.out
    assert "is not on this machine" not in after.err


def test_show(far: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "org/name:Q4_K_M"]) == 0
    assert "llama" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("org/name:Q9", "org/name has no Q9; it has Q4_K_M, Q8_0, F16."),
        ("org/name:BF16", "org/name has no BF16; it has Q4_K_M, Q8_0, F16."),  # only the tower's
        ("org/name/x.gguf", "org/name has no file x.gguf; it has Q4_K_M, Q8_0, F16."),
        (f"org/name/{TOWER}", f"org/name has no file {TOWER}; it has Q4_K_M, Q8_0, F16."),
    ],
)
@pytest.mark.parametrize("word", ["pull", "fit", "run", "show", "serve"])
def test_what_is_not_there(word: str, name: str, told: str, far: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"run": ["hello"], "serve": ["--port", "0"]}.get(word, [])
    assert main([word, name, *more]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(told)
    assert fetched(far) == set()


def test_safetensors_win_unless_a_tag_is_said(far: FakeHub, settings: Settings) -> None:
    far.files["model.safetensors"] = b"weights"
    assert resolve("org/name", settings).is_dir()
    assert not any(".gguf" in line for line in far.asked)
    assert resolve("org/name:Q8_0", settings).name == Q8
    assert [name for name, _ in list_installed(settings)] == ["smollm2", "org/name", "org/name:Q8_0"]


def test_parts_are_fetched_together(model: Path, far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    parts = [f"Q6_K/{part.name}" for part in halved(model, tmp_path / "parts")]
    far.files |= {name: (tmp_path / "parts" / name.rpartition("/")[2]).read_bytes() for name in parts}
    place = resolve("org/name:Q6_K", settings)
    assert place.parent.name == "Q6_K"
    assert len(open_checkpoint(place).files) == 2
    far.asked.clear()
    assert resolve(f"org/name/{parts[1]}", settings) == place
    assert far.asked == []
    assert main(["verify", "org/name:Q6_K"]) == 0
    (place.parent / "m-00002-of-00002.gguf").unlink()
    assert resolve("org/name:q6_k", settings) == place
    assert len(open_checkpoint(place).files) == 2


def test_names_that_lead_elsewhere_are_not_followed(far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    far.files = {"../../../../x-Q4_0.gguf": b"GGUF", "/x-Q4_1.gguf": b"GGUF", "a/../../x-Q5_0.gguf": b"GGUF"}
    for name in ("org/name", "org/name:Q4_0"):
        with pytest.raises(ModelError, match=r"no (GGUF )?model"):
            resolve(name, settings)
    assert not list(tmp_path.rglob("*.gguf"))


# ---- what fails midway ----------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code", "told"), REFUSALS)
@pytest.mark.parametrize("at_the_file", [False, True], ids=["at once", "at the file"])
def test_every_refusal_is_one_sentence(
    status: int, code: str | None, told: str, at_the_file: bool, far: FakeHub, settings: Settings
) -> None:
    far.code = code
    if at_the_file:
        far.refuses[Q4] = status
    else:
        far.status = status
    with pytest.raises(ModelError, match=told) as raised:
        resolve("org/name:Q4_K_M", settings)
    assert "\n" not in str(raised.value)
    assert pull.here(names.Name("org/name", tag="Q4_K_M"), settings) is None


def test_a_pull_that_stopped_goes_on_where_it_stopped(far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    far.stops_after, far.dies = 5000, True
    with pytest.raises(ModelError, match="out of order"):
        resolve("org/name:Q4_K_M", settings)
    assert [part.stat().st_size for part in unfinished(tmp_path)] == [5000]
    assert pull.here(names.Name("org/name"), settings) is None
    far.stops_after, far.dies, far.refuses = None, False, {}
    far.ranges.clear()
    place = resolve("org/name:Q4_K_M", settings)
    assert place.read_bytes() == far.files[Q4]
    assert [line for line in far.ranges if Q4 in line] == [f"{Q4} bytes=5000-"]
    assert unfinished(tmp_path) == []
    assert all(one.fault is None and one.digest for one in verified(place))


def test_a_line_that_breaks_again_and_again(far: FakeHub, settings: Settings) -> None:
    far.stops_after = len(far.files[Q4]) // 3
    assert resolve("org/name:Q4_K_M", settings).read_bytes() == far.files[Q4]


def test_a_hub_that_ignores_ranges_begins_anew(far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    far.stops_after, far.dies = 5000, True
    with pytest.raises(ModelError):
        resolve("org/name:Q4_K_M", settings)
    far.stops_after, far.dies, far.refuses, far.ignores_ranges = None, False, {}, True
    assert resolve("org/name:Q4_K_M", settings).read_bytes() == far.files[Q4]


@pytest.mark.parametrize("left", [b"", b"other bytes", bytes(10**6)], ids=["nothing", "other bytes", "too many"])
def test_what_an_earlier_try_left_is_not_believed(
    left: bytes, far: FakeHub, settings: Settings, tmp_path: Path
) -> None:
    part = tmp_path / "hub" / "models--org--name" / "blobs" / (far.digest(Q4) + blob.UNFINISHED)
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    if left == b"other bytes":
        with pytest.raises(ModelError, match="did not arrive as the hub has it; fetch it again"):
            resolve("org/name:Q4_K_M", settings)
        assert not part.exists()
    assert resolve("org/name:Q4_K_M", settings).read_bytes() == far.files[Q4]


def test_a_file_that_arrives_damaged_is_never_a_model(far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    far.damages = {Q4}
    with pytest.raises(ModelError, match="did not arrive as the hub has it"):
        resolve("org/name:Q4_K_M", settings)
    assert not list((tmp_path / "hub").rglob("*.gguf"))
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize("size", [-1, 1 << 60, 10])
def test_sizes_that_are_not_so(size: int, far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    far.lies = {Q4: size}
    with pytest.raises(ModelError) as raised:
        resolve("org/name:Q4_K_M", settings)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "hub").rglob("*.gguf"))


def test_a_disk_without_room_is_told_before(far: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=pull.SPARE)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(ModelError, match=r"takes 0\.0 GiB more, and 1\.0 GiB of the disk are free"):
        resolve("org/name:Q4_K_M", settings)
    far.files |= {"config.json": b"{}", "model.safetensors": b"weights", "other/model.safetensors": bytes(10)}
    far.lies = {"model.safetensors": 3 << 30, "other/model.safetensors": 9 << 30}
    with pytest.raises(ModelError, match=r"org/name takes 3\.0 GiB more, and 1\.0 GiB of the disk are free"):
        resolve("org/name", settings)
    assert fetched(far) == set()


def test_a_disk_that_fills(far: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(ModelError, match=r"disk is full.*the next try goes on"):
        resolve("org/name:Q4_K_M", settings)
    assert not list((tmp_path / "hub").rglob("*.gguf"))


def test_offline_the_network_is_never_asked(far: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve("org/name:Q4_K_M", settings)
    far.asked.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert resolve("org/name:Q4_K_M", settings).name == Q4
    assert resolve("org/name", settings).name == Q4
    for name in ("org/name:Q8_0", "org/other", f"org/name/{Q8}"):
        with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids"):
            resolve(name, settings)
        assert main(["fit", name]) == 2
    assert far.asked == []


def test_two_pulls_at_once_end_alike(far: FakeHub, tmp_path: Path) -> None:
    code = "from mlxrun.store.resolve import resolve; print(resolve('org/name:Q4_K_M'))"
    places = printed_by_two(code, tmp_path / "hub")
    assert places == {str(tmp_path / "hub" / "models--org--name" / "snapshots" / COMMIT / Q4)}
    assert all(one.fault is None for one in verified(Path(places.pop())))
    assert sum(line.startswith("GET") and line.endswith(Q4) for line in far.asked) == 1
    assert unfinished(tmp_path) == []


# ---- list, verify, rm -----------------------------------------------------------------------------


def verified(place: Path) -> list[Any]:
    from mlxrun.store.verify import verify

    return list(verify(place))


def test_every_file_is_listed_by_a_name_that_leads_there(far: FakeHub, settings: Settings) -> None:
    far.files["deep/Tiny-Q8_0.gguf"] = far.files[Q8]
    for name in ("org/name:Q4_K_M", f"org/name/{Q8}", "org/name/deep/Tiny-Q8_0.gguf"):
        resolve(name, settings)
    found = dict(list_installed(settings))
    assert set(found) == {"smollm2", "org/name:Q4_K_M", f"org/name/{Q8}", "org/name/deep/Tiny-Q8_0.gguf"}
    far.asked.clear()
    assert all(resolve(name, settings) == place for name, place in found.items() if place is not None)
    assert far.asked == []


@pytest.mark.parametrize("name", ["org/name:Q8_0", "org/name"])
def test_a_damaged_file_is_named_and_fetched_anew(
    name: str, far: FakeHub, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    resolve("org/name:Q4_K_M", settings)
    place = resolve("org/name:Q8_0", settings)
    raw = bytearray(place.read_bytes())
    raw[-3] ^= 1
    place.resolve().write_bytes(raw)
    assert main(["verify", name, "--check"]) == 1
    assert f"{Q8}: its digest is not" in capsys.readouterr().err
    assert main(["verify", "org/name:Q4_K_M"]) == 0
    assert main(["verify", name]) == 0
    assert f"{Q8} fetched anew" in capsys.readouterr().out
    assert place.read_bytes() == far.files[Q8]


def test_one_file_goes_and_the_others_stay(far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    from mlxrun.store.remove import remove

    resolve("org/name:Q4_K_M", settings)
    place = resolve("org/name:Q8_0", settings)
    assert remove("org/name:Q8_0", settings).model == len(far.files[Q8])
    assert not place.exists()
    assert len(list((tmp_path / "hub" / "models--org--name" / "blobs").iterdir())) == 1
    assert [name for name, _ in list_installed(settings)] == ["smollm2", "org/name:Q4_K_M"]
    with pytest.raises(ModelError, match="has no Q8_0; it has Q4_K_M"):
        remove("org/name:Q8_0", settings)
    assert remove("org/name:q4_k_m", settings).model >= len(far.files[Q4])  # the last one: nothing stays
    assert not (tmp_path / "hub" / "models--org--name").exists()


def test_the_whole_repository_goes_with_what_was_made_ready(far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    from mlxrun.loading import ready
    from mlxrun.store.remove import remove

    place = resolve("org/name:Q4_K_M", settings)
    resolve("org/name:Q8_0", settings)
    settings.ready.mkdir(parents=True)
    made = ready.file_of(settings.ready, ready.Source(place, (place,)))
    made.write_bytes(bytes(10))
    remove("org/name", settings)
    assert not made.exists()
    assert not (tmp_path / "hub" / "models--org--name").exists()


def test_a_pull_that_never_ended_can_be_removed(far: FakeHub, settings: Settings, tmp_path: Path) -> None:
    from mlxrun.store.remove import remove

    far.stops_after, far.dies = 5000, True
    with pytest.raises(ModelError):
        resolve("org/name:Q4_K_M", settings)
    assert remove("org/name", settings).model == 5000
    assert unfinished(tmp_path) == []


def test_what_somebody_grants_counts(tmp_path: Path) -> None:
    assert pull.machine_of(Settings(home=tmp_path, memory=5000)).usable == 5000
