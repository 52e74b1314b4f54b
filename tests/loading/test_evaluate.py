"""A model as a GPU holds it, of weights that a Mac would map: there before it is said to be, counted and watched.

The device says GPU and what it is handed are a Mac's whole pages; MLX computes on the CPU all the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.evaluate import in_order
from mlxrun.loading.file_guard import CHANGED, FileGuard
from mlxrun.loading.model import Model
from mlxrun.loading.used import Used
from mlxrun.ops import fused
from mlxrun.ops.device import a_mac
from mlxrun.ops.native import native
from mlxrun.weights import mapped
from mlxrun.weights.adopted import Adoption, address_of
from mlxrun.weights.pages import bring_in
from tests.adopting import FakeMetal, write_sharded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sharded(tmp_path_factory.mktemp("sharded") / "model")


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> FakeMetal:
    fake = FakeMetal()
    monkeypatch.setattr(mapped, "adoption_here", lambda: fake.adoption)
    return fake


def load(folder: Path, **options: object) -> Model:
    model = load_model(folder, options=LoadOptions(device=a_mac(), **options))  # type: ignore[arg-type]  # its fields
    assert isinstance(model, Model)
    return model


def answer(model: Model) -> np.ndarray:
    hidden = model(mx.arange(5, dtype=mx.int32), [(model.new_sequence(), 5)])
    return np.array(model.logits(hidden).astype(mx.float32))


def test_what_is_mapped_is_counted_and_computes_the_same(folder: Path, metal: FakeMetal) -> None:
    model, read = load(folder), load(folder, mapped=False)
    used, budget = model.holdings.used, model.holdings.budget
    assert np.array_equal(answer(model), answer(read))
    assert budget is not None
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert 0.95 * stored < budget.mapped == used.mapped < stored  # all but norms
    assert used.mapped + used.own == budget.weights
    assert (used.files, used.why_not_mapped, used.fallbacks) == (8, None, ())
    assert f"mapped: {used.mapped / 1e6:.1f} MB of 8 files" in used.memory
    assert len(model.holdings.adopted) == 8
    assert model.holdings.files == ()
    assert model.holdings.mapped == 0  # MLX counts it already
    none = read.holdings
    assert (none.used.mapped, none.used.why_not_mapped, none.adopted) == (0, None, ())


def test_all_is_there_before_it_is_loaded_and_progress_tells(
    folder: Path, metal: FakeMetal, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[int] = []

    def seen(address: int, size: int) -> list[int]:
        touched.append(size)
        return list(bring_in(address, size))

    monkeypatch.setattr("mlxrun.loading.evaluate.bring_in", seen)
    told: list[tuple[int, int]] = []
    model = load(folder, progress=lambda done, total: told.append((done, total)))
    used = model.holdings.used
    assert sum(touched) == used.mapped
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) >= 300
    assert told[-1] == (used.mapped + used.own, used.mapped + used.own)


def test_what_progress_raises_ends_the_load(folder: Path, metal: FakeMetal) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(folder, progress=stop)


def test_nothing_is_evaluated_of_what_does_not_fit(folder: Path, metal: FakeMetal) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        load(folder, memory=10 << 20, progress=lambda done, total: pytest.fail("it was read"))


def test_no_mapping_is_told_with_its_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(words: np.ndarray) -> mx.array:
        raise ValueError("[convert] Cannot import a CPU array without a copy.")

    monkeypatch.setattr(mapped, "adoption_here", lambda: Adoption(refuse))
    model = load(folder)
    used = model.holdings.used
    assert used.mapped == 0
    assert used.fallbacks == (used.memory,)
    assert used.memory in model.notes
    assert "because MLX takes no mapped memory here: [convert] Cannot import" in used.memory


def test_what_lies_across_windows_is_told_only_where_the_rest_is_mapped(folder: Path, metal: FakeMetal) -> None:
    metal.longest = 163840  # an embedding takes 196608 bytes
    partly = load(folder).holdings.used
    assert partly.mapped
    assert partly.why_not_mapped is not None
    assert "across what can be mapped at once" in partly.why_not_mapped
    cast = load_model(folder, dtype=mx.bfloat16, options=LoadOptions(device=a_mac())).holdings.used
    assert (cast.mapped, cast.why_not_mapped) == (0, None)


def test_a_changed_file_ends_belief(folder: Path, metal: FakeMetal, tmp_path: Path) -> None:
    for file in folder.iterdir():
        os.link(file, tmp_path / file.name)
    model = load(tmp_path)
    guard = FileGuard(model)
    assert guard.fault() is None
    os.utime(tmp_path / "model-00003-of-00008.safetensors", (1, 1))
    assert guard.fault() == CHANGED


def test_a_file_of_which_nothing_is_used_as_stored_is_let_go(folder: Path, metal: FakeMetal) -> None:
    model = load_model(folder, dtype=mx.float32, options=LoadOptions(device=a_mac()))
    assert isinstance(model, Model)
    assert (model.holdings.adopted, model.holdings.used.mapped) == ((), 0)


@pytest.mark.skipif(native is None, reason="only the native library tells which pages are in memory")
def test_every_page_is_brought_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxrun.weights.pages.PIECE", 1 << 16)
    size = (300 << 10) + 5
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", size)
    file = native.MappedFile(str(tmp_path / "hole"), size)
    assert file.resident == 0
    told = list(bring_in(address_of(file.array(0, [size], mx.uint8)), size))
    assert file.resident == size
    assert told == sorted(told)
    assert told[-1] == size


def test_weights_come_in_the_order_of_a_pass() -> None:
    names = ["norm.weight", "layers.10.a", "layers.2.b", "head.weight", "embed.weight", "layers.2.a"]
    wanted = ["embed.weight", "layers.2.b", "layers.2.a", "layers.10.a", "norm.weight", "head.weight"]
    assert in_order({name: mx.zeros(1) for name in names}) == wanted


def test_without_the_native_library_a_model_loads_all_the_same(
    folder: Path, metal: FakeMetal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a Mac that has none: nothing may ask it for a part that no weight of this device would use."""
    wanted = answer(load(folder))
    monkeypatch.setattr(fused, "native", None)
    assert np.array_equal(answer(load(folder)), wanted)


def test_few_descriptors_are_enough(folder: Path) -> None:
    """300 tensors in 8 files, and a process that may hold 64 descriptors: as in a fresh terminal of a Mac, 256."""
    code = (
        "import json, os, resource, sys, time\n"
        "from mlxrun.weights import mapped\n"
        "from tests.adopting import FakeMetal\n"
        "metal = FakeMetal()\n"
        "mapped.adoption_here = lambda: metal.adoption\n"
        "from mlxrun.loading import LoadOptions, load_model\n"
        "from mlxrun.ops.device import a_mac\n"
        "count = lambda: len(os.listdir('/proc/self/fd'))\n"
        "before = count()\n"
        "model = load_model(sys.argv[1], options=LoadOptions(device=a_mac()))\n"
        "ends = time.monotonic() + 20\n"  # MLX's threads close what they have read from a moment later
        "while count() > before and time.monotonic() < ends: time.sleep(0.01)\n"
        "print(json.dumps([model.holdings.used.data(), count() - before, resource.getrlimit(resource.RLIMIT_NOFILE)]))"
    )
    command = f'ulimit -n 64; exec "{sys.executable}" -c "$0" "$1"'
    done = subprocess.run(
        ["bash", "-c", command, code, str(folder)], capture_output=True, text=True, timeout=120, check=True
    )
    used, held, limits = json.loads(done.stdout)
    assert limits == [64, 64]
    assert held <= 0
    assert (used["files"], used["why_not_mapped"]) == (8, None)
    assert used["mapped"] > 20e6


def test_sentences_for_people_and_data_for_programs() -> None:
    used = Used(mapped=4_600_000_000, files=2, own=12_000_000)
    assert used.memory == "Weights mapped: 4.60 GB of 2 files, in memory of its own: 12.0 MB."
    assert used.wiring == "Not wired: nobody asked for it."
    wired = used.with_wired(4_200_000_000, None).with_refused(("A kernel was refused.",))
    assert wired.wiring == "Wired: 4.20 GB."
    assert wired.sentences[1] == "A kernel was refused."
    assert wired.fallbacks == ("A kernel was refused.",)
    assert json.loads(json.dumps(wired.data()))["wired"] == 4_200_000_000
    assert "because it was refused." in Used(why_not_mapped="it was refused").fallbacks[0]
