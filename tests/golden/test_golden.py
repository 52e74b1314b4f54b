"""Every family against transformers: the same weights through our loader, the same float32 outputs.

`pytest tests/golden -k NAME` runs one case. With GOLDEN_RECORD=FILE the worst differences are kept there.
"""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxrun.engine.load import load_model

from . import measure, record
from .cases import CASES
from .checkpoint import Reference, reference, write
from .measure import Driver

TOLERANCE = 1e-4  # float32 rounding alone moves the references by up to 3e-5
DECODERS = [name for name, case in CASES.items() if not case.encoder]


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Driver, Reference]:
    known = reference(request.param)
    folder = write(known.checkpoint(), tmp_path_factory.mktemp(known.name))
    return Driver(load_model(folder, dtype=mx.float32), known), known


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
