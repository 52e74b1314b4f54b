"""The same weights in every spelling, layout and dialect that a family's files come in: the same outputs."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxrun.loading import load_model

from . import measure, record
from .cases import CASES
from .checkpoint import Checkpoint, Reference, reference, write
from .exact import EXACT
from .layouts import LAYOUTS, layouts
from .mlx_dialect import NO_MLX, in_mlx, reason_against
from .test_golden import TOLERANCE

OTHERS = [(name, layout) for name, case in CASES.items() for layout in layouts(name, case.model_type)]
IN_MLX = [name for name, case in CASES.items() if reason_against(name, case.model_type) is None]
MANY = ("llama", "deepseek_v3", "gemma4_moe")


def check(known: Reference, folder: Path, what: str) -> None:
    driver = measure.Driver(load_model(folder, dtype=mx.float32, options=EXACT), known)
    difference = measure.whole(driver, known)
    record.keep(known.name, what, difference)
    assert difference <= TOLERANCE, f"{known.name}, {what}: off by {difference:.1e}"


@pytest.mark.parametrize(("name", "layout"), OTHERS)
def test_other_spellings_and_layouts(name: str, layout: str, tmp_path: Path) -> None:
    known = reference(name)
    other = layouts(name, CASES[name].model_type)[layout](known.checkpoint())
    check(known, write(other, tmp_path), f"layout {layout}")


@pytest.mark.parametrize("name", IN_MLX)
def test_the_mlx_dialect(name: str, tmp_path: Path) -> None:
    known = reference(name)
    check(known, write(in_mlx(name, known.checkpoint()), tmp_path), "dialect mlx")


@pytest.mark.parametrize("name", MANY)
def test_several_files_with_an_index_and_a_stale_one(name: str, tmp_path: Path) -> None:
    known = reference(name)
    write(known.checkpoint(), tmp_path, shards=3)
    stale = {"model.embed_tokens.weight": np.zeros((48, 64), np.float32)}
    save_file(stale, tmp_path / "model-00004-of-00004.safetensors", metadata={"format": "pt"})
    check(known, tmp_path, "layout sharded")


@pytest.mark.parametrize("name", ["llama", "granite_hybrid", "gemma3"])
def test_bfloat16_files_widen_without_loss(name: str, tmp_path: Path) -> None:
    """Stored as bfloat16 and computed in float32: the same as the rounded values stored as float32."""
    known = reference(name)
    rounded = {
        n: np.array(mx.array(v).astype(mx.bfloat16).astype(mx.float32)) for n, v in known.checkpoint().weights.items()
    }
    wide = write(Checkpoint(known.config, rounded), tmp_path / "wide")
    narrow = tmp_path / "narrow"
    narrow.mkdir()
    (narrow / "config.json").write_bytes((wide / "config.json").read_bytes())
    halves = {n: mx.array(v).astype(mx.bfloat16) for n, v in rounded.items()}
    mx.save_safetensors(str(narrow / "model.safetensors"), halves, metadata={"format": "pt"})
    outs = [
        measure.Driver(load_model(f, dtype=mx.float32, options=EXACT), known).alone(known.prompt)
        for f in (wide, narrow)
    ]
    assert measure.apart(*outs) == 0.0


def test_tables_name_real_cases() -> None:
    models = {case.model_type for case in CASES.values()}
    assert set(LAYOUTS) <= set(CASES)
    assert set(NO_MLX) <= set(CASES) | models
