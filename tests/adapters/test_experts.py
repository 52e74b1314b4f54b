"""Experts' adapters beside the model, by MLX's own forms: rows of several adapters are laid out by expert together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from mlxrun.ops.experts import GROUP_FROM
from mlxrun.spec import ModelError
from tests.golden.checkpoint import reference, write
from tests.golden.measure import Driver

from .made import ALPHA, RANK, drawn_pairs, merged, write_peft

NAMES = ("a", None, "b", "a")
ROUTED = ("experts", "mlp.gate.")


def test_in_any_company_as_the_merged_checkpoint(tmp_path: Path) -> None:
    known = reference("qwen3_moe")
    checkpoint, device = known.checkpoint(), this_device("exact", native=False)
    pairs = {
        name: {key: pair for key, pair in drawn_pairs(checkpoint, seed).items() if any(part in key for part in ROUTED)}
        for name, seed in (("a", 1), ("b", 2))
    }
    base = write(checkpoint, tmp_path / "base")
    adapters = tuple((name, write_peft(tmp_path / name, own)) for name, own in pairs.items())
    found = Driver(load_model(base, options=LoadOptions(device=device, adapters=adapters)), known)
    assert len(NAMES) * len(known.prompt) * 2 > GROUP_FROM > len(known.prompt[:4]) * 2  # both ways to lay them out
    wanted = {}
    for name in set(NAMES):
        own = checkpoint if name is None else merged(checkpoint, pairs[name], ALPHA / RANK)
        other = Driver(load_model(write(own, tmp_path / f"both {name}"), options=LoadOptions(device=device)), known)
        wanted[name] = {
            size: other.run([(other.sequence(), known.prompt[:size])])[0] for size in (4, len(known.prompt))
        }
    for size in (4, len(known.prompt)):
        memories = [found.sequence() for _ in NAMES]
        for memory, name in zip(memories, NAMES, strict=True):
            memory.adapter = None if name is None else found.model.holdings.adapters[name]
        told = found.run([(memory, known.prompt[:size]) for memory in memories])
        for name, got in zip(NAMES, told, strict=True):
            assert np.abs(got - wanted[name][size]).max() <= 3e-5 * np.abs(wanted[name][size]).max()
    assert np.abs(wanted["a"][4] - wanted[None][4]).max() > 0.1


def test_lengths_of_experts_rows_are_not_there(tmp_path: Path) -> None:
    known = reference("qwen3_moe")
    checkpoint = known.checkpoint()
    pairs = {key: pair for key, pair in drawn_pairs(checkpoint).items() if "experts" in key}
    lengths = {key: np.ones(pair.b.shape[0], np.float32) for key, pair in pairs.items()}
    one = write_peft(tmp_path / "one", pairs, lengths, use_dora=True)
    base, device = write(checkpoint, tmp_path / "base"), this_device("exact", native=False)
    with pytest.raises(ModelError, match="cannot change while this model runs: fuse it"):
        load_model(base, options=LoadOptions(device=device, adapters=(("one", one),)))
