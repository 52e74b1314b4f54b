"""Every family against transformers: the same weights through our loader, the same float32 outputs.

`pytest tests/golden -k NAME` runs one case. With GOLDEN_RECORD=FILE the worst differences are kept there.
"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from mlxrun.cache import keys
from mlxrun.loading import load_model

from . import measure, record
from .cases import CASES
from .checkpoint import Reference, reference, write
from .exact import EXACT
from .measure import Driver

TOLERANCE = 1e-4  # float32 rounding alone moves the references by up to 3e-5
WINDOWS = ("sliding_window", "attention_chunk_size")
DECODERS = [name for name, case in CASES.items() if not case.encoder]
WINDOWED = [name for name in DECODERS if any(CASES[name].config.get(key) for key in WINDOWS)]


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Driver, Reference]:
    known = reference(request.param)
    folder = write(known.checkpoint(), tmp_path_factory.mktemp(known.name))
    return Driver(load_model(folder, dtype=mx.float32, options=EXACT), known), known


def check(loaded: tuple[Driver, Reference], how: str) -> None:
    driver, known = loaded
    difference = getattr(measure, how)(driver, known)
    record.keep(known.name, how, difference)
    assert difference <= TOLERANCE, f"{known.name}, {how}: off by {difference:.1e}"


@pytest.mark.parametrize("loaded", CASES, indirect=True)
def test_whole_pass(loaded: tuple[Driver, Reference]) -> None:
    check(loaded, "whole")


@pytest.mark.parametrize("loaded", DECODERS, indirect=True)
def test_uneven_chunks_then_single_steps(loaded: tuple[Driver, Reference]) -> None:
    check(loaded, "chunked")


@pytest.mark.parametrize("loaded", CASES, indirect=True)
def test_ragged_batch_equals_each_alone(loaded: tuple[Driver, Reference]) -> None:
    check(loaded, "ragged")


@pytest.mark.parametrize("loaded", DECODERS, indirect=True)
def test_rewound_equals_fresh(loaded: tuple[Driver, Reference]) -> None:
    check(loaded, "rewound")


TIGHT = [(name, 3, 0) for name in (*WINDOWED, "llama", "deepseek_v3", "glm_moe_dsa", "granite_hybrid")]


@pytest.mark.parametrize(("name", "step", "slack"), [*TIGHT, ("mistral_window", 5, 4), ("llama4_scout", 5, 4)])
def test_keys_that_grow_and_fall_out(
    name: str, step: int, slack: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With buffers that grow by a few tokens and keep few beyond the window, as long texts make them."""
    monkeypatch.setattr(keys, "STEP", step)
    monkeypatch.setattr(keys, "SLACK", slack)
    known = reference(name)
    driver = Driver(load_model(write(known.checkpoint(), tmp_path), dtype=mx.float32, options=EXACT), known)
    for how in ("chunked", "ragged", "rewound"):
        check((driver, known), how)
