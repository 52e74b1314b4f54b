"""Experts on disk, through the real loader: the same bits, and no more of them in memory than is allowed."""

from __future__ import annotations

import gc
import mmap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.core import Request
from mlxrun.engine.engine import Engine
from mlxrun.loading import LoadOptions, fit, load_model, ready
from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.expert_offload import ExpertOffload, ExpertStack
from mlxrun.loading.model import Model
from mlxrun.loading.open import recipe_of
from mlxrun.memory import plan as plans
from mlxrun.memory.need import Need
from mlxrun.memory.plan import plan
from mlxrun.memory.streaming import EDGES
from mlxrun.memory.weights import EXPERTS
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from mlxrun.weights.headers import read_header
from tests.unit.memory import outlines

pytestmark = pytest.mark.skipif(not this_device().native, reason="no native kernels here, so no experts are mapped")

MIB = 2**20
CONFIG = {  # 42 MiB of experts: 16 in each of 6 layers, 0.4 MiB each, two for a token
    **outlines.QWEN3_30B_A3B,
    "hidden_size": 512,
    "head_dim": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "num_hidden_layers": 6,
    "moe_intermediate_size": 512,
    "intermediate_size": 512,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 256,
}
SPARE = 16 * MIB  # in place of what is left for estimates of real models
HOT = 15 * MIB  # of 42; a layer's are 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random codes; steps so small that nothing grows beyond measure."""
    place, random = outlines.write(tmp_path_factory.mktemp("moe") / "moe", CONFIG, 4), np.random.default_rng(0)
    file = place / "model.safetensors"
    raw = np.memmap(file, np.uint8, "r+")
    for name, tensor in read_header(file).tensors.items():
        view = raw[tensor.start : tensor.start + tensor.nbytes]
        if tensor.dtype == "U32":
            view[:] = random.integers(0, 256, tensor.nbytes, np.uint8)
        else:
            step, middle = (0.002, 127.5) if ".mlp.gate." in name else (0.02, 7.5)
            value = {"scales": step, "biases": -step * middle}.get(name.rpartition(".")[2], 1.0)
            view[:] = np.full(tensor.nbytes // 2, np.float32(value).view(np.uint32) >> 16, np.uint16).view(np.uint8)
    raw.flush()
    return place


@pytest.fixture(scope="module")
def keep(folder: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ready, "LEAST", 0)
        patch.setattr(ready, "SPARE", 0)
        for module in (plans, fit):
            patch.setattr(module, "SPARE", SPARE)
        yield folder.parent / "ready"


def granted(folder: Path, hot: int) -> int:
    """Memory with which so many bytes of experts may stay."""
    checkpoint = open_checkpoint(folder)
    recipe = recipe_of(checkpoint)
    seen = dry_run(checkpoint, recipe, this_device())
    need = Need(recipe.decoder, seen.weights, seen.width, recipe.decoder.context, keys=seen.keys, hot=hot)
    return plan(need, fit.this_machine()).total + SPARE


def on_disk(folder: Path, keep: Path, hot: int = HOT) -> Model:
    found = load_model(folder, options=LoadOptions(ready=keep, memory=granted(folder, hot), experts_on_disk=True))
    assert isinstance(found, Model)
    return found


def mapped_rss(keep: Path) -> int:
    """Bytes of the ready file in this process's memory: what the kernel says."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            ours = words[-1].startswith(str(keep))
        elif ours and words[0] == "Rss:":
            total += int(words[1]) * 1024
    return total


def steps(model: Model, count: int) -> Iterator[mx.array]:
    """Logits after a prompt, then of tokens that follow."""
    sequence, ids = model.new_sequence(), mx.arange(40, dtype=mx.int32) * 7
    for number in range(count):
        logits = model.logits(model(ids, [(sequence, ids.size)])[-1:])
        mx.eval(logits)
        yield logits
        ids = mx.array([(number * 131) % 1024], mx.int32)


def test_the_same_bits_and_memory_within_its_bound(folder: Path, keep: Path) -> None:
    whole = load_model(folder, options=LoadOptions(ready=keep))
    assert isinstance(whole, Model)
    assert whole.holdings.offload is None
    wanted = [np.array(logits) for logits in steps(whole, 40)]
    everything = mapped_rss(keep)
    del whole

    model = on_disk(folder, keep)
    assert model.holdings.offload is not None
    size = model.holdings.files[0].size
    rest = size - model.holdings.offload.bytes
    assert everything > rest + 2 * HOT  # or the bound would show nothing
    assert model.holdings.offload.bound == HOT
    seen: list[int] = []
    use = model.holdings.offload.use

    def watched(layer: int, experts: Any) -> None:
        seen.append(mapped_rss(keep))
        use(layer, experts)
        seen.append(mapped_rss(keep))

    model.holdings.offload.use = watched  # type: ignore[method-assign]  # to look between layers too
    for logits, one in zip(steps(model, 40), wanted, strict=True):
        assert np.isfinite(one).all()
        assert np.array_equal(np.array(logits), one)
        seen.append(mapped_rss(keep))
    assert len(seen) > 40 * 6 * 2
    assert max(seen) <= rest + HOT
    assert model.holdings.offload.held <= HOT
    assert model.holdings.offload.missed > model.holdings.offload.foreseen > 0
    assert len({one.tobytes() for one in wanted}) == len(wanted)


def test_an_engine_counts_what_is_held(folder: Path, keep: Path) -> None:
    gc.collect()  # offloaded models of earlier tests lie in cycles, and may otherwise be freed between the two readings
    taken = []
    for load in (lambda: on_disk(folder, keep), lambda: load_model(folder, options=LoadOptions(ready=keep))):
        engine = Engine.start(load)
        try:
            events = list(engine.submit(Request((1, 2, 3), 5)))
            assert sum(len(event.tokens) for event in events) == 5, events[-1].reason
            taken.append(engine.memory().weights)
            told = any("of the experts" in note and "assumed" in note for note in engine.model.notes)
            assert told is (len(taken) == 1)
        finally:
            engine.close()
    assert taken[1] - taken[0] > 25 * MIB


def test_what_fits_is_loaded_as_ever(folder: Path, keep: Path) -> None:
    model = load_model(folder, options=LoadOptions(ready=keep, experts_on_disk=True))
    assert isinstance(model, Model)
    assert model.holdings.offload is None


def test_it_must_be_asked_for(folder: Path, keep: Path) -> None:
    memory = granted(folder, HOT)
    with pytest.raises(ModelError, match=r"--experts-on-disk\)"):
        load_model(folder, options=LoadOptions(ready=keep, memory=memory, context=256))


def test_refusals(folder: Path, keep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LoadOptions(ready=keep, memory=granted(folder, HOT), experts_on_disk=True)
    with pytest.raises(ModelError, match="does not fit even with its experts on disk"):
        load_model(folder, options=replace(disk, memory=granted(folder, 2 * MIB)))
    with pytest.raises(ModelError, match="--no-map forbids it"):
        load_model(folder, options=replace(disk, ready=None))
    with pytest.raises(ModelError, match="native kernels"):
        load_model(folder, dtype=mx.float32, options=disk)
    plain = outlines.write(tmp_path / "plain", {**outlines.QWEN3_4B, "num_hidden_layers": 1}, 4)
    with pytest.raises(ModelError, match="no experts"):
        load_model(plain, options=disk)
    monkeypatch.setattr(ready, "SPARE", 1 << 62)
    with pytest.raises(ModelError, match="lacks room"):
        load_model(folder, options=replace(disk, ready=tmp_path / "elsewhere"))


# ---- the offload alone ----------------------------------------------------------------------------


PAGE = mmap.PAGESIZE


class File:
    """Which pages are held, and which were asked for."""

    size = 64 * PAGE

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.held: set[int] = set()

    def will_need(self, start: int, size: int) -> None:
        self.asked += pages(start, size)

    def need_not_stay(self, start: int, size: int) -> None:
        assert start % PAGE == size % PAGE == 0
        self.held -= set(pages(start, size))


def pages(start: int, size: int) -> range:
    return range(start // PAGE, -(-(start + size) // PAGE))


def offload_of(file: File, bound: int) -> ExpertOffload:
    """Two layers of eight experts: one has two matrices of two pages each, the other one matrix."""
    stacks = [ExpertStack(((0, 16 * PAGE), (16 * PAGE, 16 * PAGE)), 8), ExpertStack(((32 * PAGE, 16 * PAGE),), 8)]
    return ExpertOffload(file, stacks, bound * PAGE + EDGES)


def test_the_longest_unused_goes_and_the_own_layer_stays() -> None:
    file = File()
    offload = offload_of(file, 36)
    offload.use(0, [0, 1])
    file.held |= {*range(8), 16, 17, 18, 19, 20, 21}  # the system brought more than was asked for
    offload.use(1, [3, 4])
    assert file.asked == [0, 1, 16, 17, 2, 3, 18, 19, 38, 39, 40, 41]
    assert file.held == {0, 1, 2, 3, 16, 17, 18, 19}
    assert offload.held == 12 * PAGE
    file.held |= set(range(38, 44))
    offload.use(0, [0, 2])  # 32 pages may come with it: all four of layer 1 may stay
    assert {38, 39, 40, 41} <= file.held
    offload.use(1, [4, 5])
    file.held |= {42, 43}
    offload.use(0, [1])  # now there are six, of which 3 was unused longest
    assert file.held & set(range(32, 48)) == {40, 41, 42, 43}
    assert offload.missed == 6
    small = offload_of(file, 1)
    small.use(1, [0])
    small.use(0, range(8))  # one layer is always held whole
    assert small.held == 32 * PAGE


def test_a_guess_is_read_ahead_and_not_held() -> None:
    offload = offload_of(File(), 64)
    offload.use(0, [1])
    offload.ahead(1, [2, 3])
    assert offload.held == 4 * PAGE
    offload.use(1, [3, 4])
    assert (offload.missed, offload.foreseen) == (3, 1)


def test_pages_that_experts_share_stay_as_long_as_one_of_them() -> None:
    file = File()
    offload = ExpertOffload(file, [ExpertStack(((100, 9 * PAGE),), 3), ExpertStack(((20 * PAGE, PAGE),), 1)], 64 * PAGE)
    offload.use(0, [1])
    assert offload.held == 4 * PAGE
    file.held |= set(range(10))
    offload.use(1, [0])
    assert file.held == {0, 3, 4, 5, 6, 9}  # 0 and 9 are others' as well


def test_the_plan_counts_what_the_offload_holds(folder: Path, keep: Path) -> None:
    model = on_disk(folder, keep)
    assert model.holdings.offload is not None
    assert model.holdings.budget is not None
    weights = dry_run(open_checkpoint(folder), recipe_of(open_checkpoint(folder)), this_device()).weights
    assert abs(weights.kinds[EXPERTS] - model.holdings.offload.bytes) < 0.001 * model.holdings.offload.bytes
    assert model.holdings.budget.mapped == model.holdings.budget.weights == weights.total - weights.kinds[EXPERTS] + HOT
