from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlxrun.metal_kernels import launch

from .. import mslsim


@pytest.fixture(autouse=True)
def simulated() -> Iterator[None]:
    """Every kernel of this folder runs in the simulator."""
    with launch.made_by(mslsim.metal_kernel):
        yield
