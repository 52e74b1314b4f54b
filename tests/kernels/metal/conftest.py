from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlxrun.metal_kernels import launch

from ..mslsim.build import why_not
from .made import linted


@pytest.fixture(autouse=True)
def _simulator() -> Iterator[None]:
    """Every kernel of this folder runs in the simulator, its text linted."""
    if reason := why_not():
        pytest.skip(reason)
    with launch.made_by(linted):
        yield
