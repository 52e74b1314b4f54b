"""What one process has read the next need not compute: real blocks, keys that forget and states, through the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlxrun.cache.restore import MISMATCH
from mlxrun.core import Event, Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from tests.golden import checkpoint

pytestmark = pytest.mark.skipif(not this_device().native, reason="keys lie in pages where native kernels compute")
GREEDY = Sampling(temperature=0)


def answer(engine: Engine, prompt: list[int]) -> tuple[list[int], int]:
    """What it says, and how many tokens of the prompt it did not compute."""
    events: list[Event] = list(engine.submit(Request(tuple(prompt), 8, GREEDY)))
    assert events[-1].usage is not None, events
    return [token for event in events for token in event.tokens], events[-1].usage.cached_tokens


def started(model: Path, prefixes: Path | None) -> Engine:
    return Engine.start(lambda: load_model(model, options=LoadOptions(prefixes=prefixes, prefix_bytes=1 << 30)))


@pytest.mark.parametrize(("name", "least"), [("qwen3", 207), ("gemma3", 207), ("qwen3_next", 192), ("mamba2", 192)])
def test_after_a_restart_little_is_computed_and_the_answer_is_the_same(name: str, least: int, tmp_path: Path) -> None:
    model = checkpoint.write(checkpoint.reference(name).checkpoint(), tmp_path / name)
    prompt = [7 + n * n % 23 for n in range(200)]
    engine = started(model, None)
    first, _ = answer(engine, prompt)
    turn = [*prompt, *first, 9, 8]
    alone, _ = answer(engine, [*turn])
    engine.close()

    engine = started(model, tmp_path / "prefixes")
    assert answer(engine, prompt) == (first, 0)
    engine.close()

    engine = started(model, tmp_path / "prefixes")
    again, cached = answer(engine, turn)
    counts = engine._scheduler._prefixes.disk.counts
    engine.close()
    assert (counts.restored, counts.mismatches, counts.unchecked) == (
        1,
        0,
        1 if name in ("qwen3_next", "mamba2") else 0,
    )
    assert cached >= least
    assert again == alone


def test_a_folder_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    model = checkpoint.write(checkpoint.reference("qwen3").checkpoint(), tmp_path / "model")
    (tmp_path / "prefixes").write_text("a file")
    with pytest.raises(ModelError, match="cannot be used for prefixes: Not a directory"):
        started(model, tmp_path / "prefixes")
    first = started(model, tmp_path / "others")
    with pytest.raises(ModelError, match="is used by another process"):
        started(model, tmp_path / "others")
    first.close()


def test_what_another_computed_differently_is_not_believed(tmp_path: Path) -> None:
    model = checkpoint.write(checkpoint.reference("qwen3").checkpoint(), tmp_path / "model")
    prompt = [7 + n * n % 23 for n in range(200)]
    engine = started(model, tmp_path / "prefixes")
    first, _ = answer(engine, prompt)
    disk = engine._scheduler._prefixes.disk
    read = disk._store.read
    disk._store = replace(disk._store, read=lambda group, page: bytes([1]) + bytes(read(group, page))[1:])
    engine.close()

    engine = started(model, tmp_path / "prefixes")
    again, cached = answer(engine, prompt)
    disk = engine._scheduler._prefixes.disk
    engine.close()
    assert (again, cached) == (first, 0)
    assert disk.counts.mismatches == 1
    assert disk.tier.statistics.dropped == {MISMATCH: disk.tier.statistics.dropped[MISMATCH]}


def test_where_keys_lie_in_no_pages_it_is_told_that_nothing_is_kept(tmp_path: Path) -> None:
    folder = checkpoint.write(checkpoint.reference("qwen3").checkpoint(), tmp_path / "model")
    plain = replace(this_device(), native=False)
    options = LoadOptions(prefixes=tmp_path / "prefixes", prefix_bytes=1 << 30, device=plain)
    assert any("not kept on disk (MLXRUN_PREFIX_DISK)" in note for note in load_model(folder, options=options).notes)
    native = load_model(folder, options=replace(options, device=None))
    assert not any("MLXRUN_PREFIX_DISK" in note for note in native.notes)
    assert not (tmp_path / "prefixes").exists()
