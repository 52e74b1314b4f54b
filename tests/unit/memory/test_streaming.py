"""What experts on disk cost, against sums of the headers' own sizes; and that it is offered where it helps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxrun import cli
from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.open import recipe_of
from mlxrun.memory.machine import Machine
from mlxrun.memory.need import Need
from mlxrun.memory.plan import plan, streaming
from mlxrun.memory.profiles import profile
from mlxrun.memory.streaming import RATE, SPARE
from mlxrun.ops.device import a_mac, this_device
from mlxrun.weights import open_checkpoint
from mlxrun.weights.headers import read_header
from tests.unit.memory import outlines

GIB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return outlines.write(tmp_path_factory.mktemp("large") / "qwen3-moe", outlines.QWEN3_30B_A3B, 4)


@pytest.fixture(scope="module")
def need(folder: Path) -> Need:
    checkpoint = open_checkpoint(folder)
    recipe = recipe_of(checkpoint)
    seen = dry_run(checkpoint, recipe, a_mac())
    return Need(recipe.decoder, seen.weights, seen.width, 4096)


def machine(gib: float, *, gpu: bool = False) -> Machine:
    return Machine("small", round(2 * gib * GIB), round(gib * GIB), gpu, here=True)


def test_what_stays_and_what_a_token_reads(folder: Path, need: Need) -> None:
    tensors = read_header(folder / "model.safetensors").tensors
    experts = sum(tensor.nbytes for name, tensor in tensors.items() if ".switch_mlp." in name)
    found = streaming(need, machine(8))
    assert found is not None
    assert found.experts == experts
    assert found.need.hot is not None
    made = plan(found.need, machine(8))
    assert made.free == SPARE
    assert made.weights == sum(tensor.nbytes for tensor in tensors.values()) - found.need.on_disk
    missing = 1 - found.need.hot / experts
    assert found.missing == pytest.approx(missing)
    assert found.read == pytest.approx(missing * experts * 8 / 128, rel=1e-6)  # 8 of 128 are chosen
    assert found.seconds == found.read / RATE


def test_more_memory_leaves_less_on_disk(need: Need) -> None:
    reads = [found.read for gib in (4, 6, 8, 12) if (found := streaming(need, machine(gib))) is not None]
    assert len(reads) == 4
    assert reads == sorted(reads, reverse=True)


def test_a_layer_must_find_room(need: Need) -> None:
    least = plan(need, machine(64)).total - need.weights.kinds["experts"] + need.weights.experts_layer
    assert streaming(need, machine((least + SPARE) / GIB)) is None
    assert streaming(need, machine((least + SPARE + 2**20) / GIB)) is not None


def test_not_for_a_gpu_nor_without_experts(tmp_path: Path, need: Need) -> None:
    assert streaming(need, machine(8, gpu=True)) is None
    assert streaming(need, profile("M4 16GB")) is None
    checkpoint = open_checkpoint(outlines.write(tmp_path, {**outlines.QWEN3_4B, "num_hidden_layers": 1}, 4))
    recipe = recipe_of(checkpoint)
    seen = dry_run(checkpoint, recipe, a_mac())
    assert seen.weights.experts_read == seen.weights.experts_layer == 0
    assert streaming(Need(recipe.decoder, seen.weights, seen.width, 512), machine(0.5)) is None


@pytest.mark.skipif(not this_device().native, reason="no native kernels here, so nothing is offered")
def test_fit_offers_it(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("mlxrun.memory.here.this_machine", lambda: machine(8))
    assert cli.main(["fit", str(folder), "--json"]) == 1
    offered = json.loads(capsys.readouterr().out)["advice"]["experts_on_disk"]
    assert offered["in_memory"] + offered["bytes"] > 14 * GIB
    assert cli.main(["fit", str(folder), "--experts-on-disk", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["weights"]["on_disk"] == offered["bytes"]
    assert found["free"] == SPARE
    assert cli.main(["fit", str(folder)]) == 1
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--experts-on-disk runs, slowly:" in told
    assert "that rate is assumed" in told
    assert cli.main(["fit", str(folder), "--experts-on-disk"]) == 0
    assert "of experts on disk" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert cli.main(["fit", str(folder), "--experts-on-disk", "--on", "M4 16GB"]) == 1
    assert "--experts-on-disk" not in capsys.readouterr().out
